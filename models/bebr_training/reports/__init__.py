"""Results as tables, Markdown pages, figures and model cards."""
