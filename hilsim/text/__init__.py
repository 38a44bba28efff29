"""Text to token ids and back: tokenizers, chat templates, and which ids target and draft share."""
