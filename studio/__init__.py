"""The application itself, free of torch and of Gradio."""
