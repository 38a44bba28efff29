"""Training of the stand-in models: corpus, tokenizer, target, distilled drafts, and the card of their acceptance."""
