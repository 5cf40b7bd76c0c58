"""Models: where they come from (`fetch`), and the base language model in process (`language_model`)."""
