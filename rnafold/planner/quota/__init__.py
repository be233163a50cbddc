"""The weekly quota: its rules and the ledger of sessions."""
