"""Papers reproduced: what they consist of, what of it has been done, and the account of both."""
