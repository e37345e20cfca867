"""Where text comes from. Each module here implements ports.Model; engines are imported when they are opened, not before."""
