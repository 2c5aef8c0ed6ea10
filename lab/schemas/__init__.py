"""What those who publish an API say its objects look like, asked of everything the lab is given."""
