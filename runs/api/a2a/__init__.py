"""`/a2a`: agent card and JSON-RPC in Bindu's wire format: reading, rating, cancelling, clearing."""
