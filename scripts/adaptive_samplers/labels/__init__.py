"""Labels of candidate answers: one module and one table per label, none depending on another's output."""
