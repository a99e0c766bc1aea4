"""What capture and recording share: an exchange while it is open (`draft`) and after the seal (`sealed`), and the
contract of a recorder (`recorder`)."""
