"""One site's Kubernetes: API server, controllers, scheduler and kubelet as ordinary processes."""
