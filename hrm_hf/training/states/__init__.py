"""All that a training run consists of, to disk and back."""
