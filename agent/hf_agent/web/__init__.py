"""HTTP: metrics, health and status for machines."""
