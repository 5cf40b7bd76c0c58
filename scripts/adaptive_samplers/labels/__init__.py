"""Labels of candidate answers: one module a label, each its own table, none depending on another's output."""
