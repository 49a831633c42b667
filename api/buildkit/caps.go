package buildkit

// frontendCaps are the capabilities of LLBBridge that clients count on (frontend/gateway/pb/caps.go). Those of containers are missing.
func frontendCaps() []string {
	return []string{
		"solve.base", "solve.inlinereturn", "return", "returnmap", "importcaches", "proto.refarray", "reference.output", "frontend.inputs",
		"gateway.solve.metadata", "frontend.caps", "gateway.solve.evaluate", "gateway.evaluate", "gateway.warnings", "reference.attestations",
	}
}

// llbCaps are those of graphs (solver/pb/caps.go): what a client asks before it offers a flag, and what named contexts are made of.
func llbCaps() []string {
	return []string{
		"source.image", "source.image.resolvemode", "source.local", "source.local.unique", "source.local.sessionid", "source.local.includepatterns",
		"source.local.followpaths", "source.local.excludepatterns", "source.local.sharedkeyhint", "source.git", "source.git.keepgitdir", "source.git.fullurl",
		"source.http", "source.http.checksum", "source.ocilayout", "exec.meta.base", "exec.meta.network", "exec.meta.security", "exec.meta.ulimit", "exec.mount.bind",
		"exec.mount.cache", "exec.mount.secret", "exec.mount.ssh", "exec.secretenv", "file.base", "constraints", "platform", "meta.ignorecache", "meta.description",
		"meta.exportcache", "cache.gha", "cache.s3", "exporter.image.annotations", "exporter.image.attestations", "exporter.sourcedateepoch", "exporter.multiple",
	}
}

func capabilities(ids []string) []capability {
	all := make([]capability, len(ids))
	for i, id := range ids {
		all[i] = capability{ID: id, Enabled: true}
	}
	return all
}
