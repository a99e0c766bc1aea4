"""The ground that capture and recording share: an exchange while it is open (`draft`), what becomes of it at the seal
(`sealed`), and what a recorder is (`recorder`)."""
