package sbom

import (
	"runtime/debug"
	"strings"
)

type buildinfoModule = debug.Module

// purl is a package URL: pkg:TYPE/NAMESPACE/NAME@VERSION. Slashes of name separate namespaces.
func purl(kind, name, version string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = escape(part)
	}
	url := "pkg:" + kind + "/" + strings.Join(parts, "/")
	if version != "" {
		url += "@" + escape(version)
	}
	return url
}

// url is the package URL of a distribution's package, with pairs of qualifiers; vendor is the namespace where no os-release says it.
func (d distro) url(kind, vendor, name, version string, qualifiers ...string) string {
	if d.id != "" {
		vendor = d.id
		if d.version != "" {
			qualifiers = append(qualifiers, "distro", d.id+"-"+d.version)
		}
	}
	url, sep := purl(kind, vendor+"/"+name, version), "?"
	for i := 0; i+1 < len(qualifiers); i += 2 {
		if qualifiers[i+1] != "" {
			url += sep + qualifiers[i] + "=" + escape(qualifiers[i+1])
			sep = "&"
		}
	}
	return url
}

// escape writes all but the characters that the specification leaves as they are in percent-encoding.
func escape(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', strings.IndexByte("-._~:", c) >= 0:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}
