package planner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/forge-build/forge/parser"
)

// Entitlements are what the caller of a build lets its RUN steps do beyond their sandbox, in the form of --allow:
// "network.host", "security.insecure", "device", "device=NAME" or "device=ANY,alias=NAME".
type Entitlements []string

// Check refuses what is no entitlement. BuildKit's "fs", "fs.read" and "fs.write" concern a builder that is elsewhere, and
// are accepted and mean nothing.
func (e Entitlements) Check() error {
	for _, allow := range e {
		name, _, _ := strings.Cut(allow, "=")
		switch name {
		case "network.host", "security.insecure", "device", "fs", "fs.read", "fs.write":
		default:
			return fmt.Errorf("--allow %s: must be network.host, security.insecure or device", allow)
		}
	}
	return nil
}

// Device reports whether a device may be used.
func (e Entitlements) Device(name string) bool {
	return slices.ContainsFunc(e, func(s string) bool {
		granted, options, _ := strings.Cut(s, ",")
		return granted == "device" || granted == "device="+name || strings.HasPrefix(s, "device=") && options == "alias="+name
	})
}

// need is an error unless the caller grants an entitlement.
func (w *walker) need(entitlement string) error {
	if slices.Contains(w.p.opt.Allow, entitlement) {
		return nil
	}
	return &parser.Error{
		Span: w.at, Source: w.p.file.Line(w.at.Start), Err: fmt.Errorf("%s is not allowed", entitlement),
		Hint: "allow it with --allow " + entitlement,
	}
}
