"""What thinking returns: pure numerics over recorded samples."""
