"""torch and diffusers: loading, caching and running pipelines."""
