"""What was measured, as tables, Markdown, figures and model cards."""
