"""The bench: where do the returns of more thinking bend?"""
