"""What a person opens in the morning: the page, the artifact in the Prefect UI, the terminal, and a bundle's card."""
