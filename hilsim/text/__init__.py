"""Text to token ids and back: tokenizers, chat templates, and which ids of a target and a draft are one token."""
