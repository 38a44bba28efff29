"""What is said: networks, tokenizers, sampling, accept rules and the sources that policies ask. No time passes here."""
