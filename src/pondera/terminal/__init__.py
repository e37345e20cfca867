"""What a person sees: the live view, the answer and its bill, the tree of a record, lists."""
