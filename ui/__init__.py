"""The Gradio page, one file per tab."""
