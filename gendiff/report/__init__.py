"""Pictures of results: quality against sampling cost, and samples themselves."""
