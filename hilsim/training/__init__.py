"""Making the stand-ins: corpus to tokenizer, target, distilled drafts, and the card that says how good they are."""
