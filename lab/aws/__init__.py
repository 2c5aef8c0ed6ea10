"""The AWS API of the lab, and the data planes moto lacks: DNS answers, health probes, object stores."""
