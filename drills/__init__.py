"""Drills: claims about the deployment, each tried by breaking something on purpose and measured at the client."""
