package image

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	defaultDomain = "docker.io"
	officialPath  = "library/"

	maxPath   = 255
	maxDomain = 255
	maxTag    = 128
)

// A Reference names an image: docker.io/library/alpine:latest@sha256:… The zero value names nothing.
type Reference struct {
	Domain string        // registry, with its port: docker.io, localhost:5000
	Path   string        // repository: library/alpine
	Tag    string        // "" only where there is a digest
	Digest digest.Digest // of a manifest, or ""
}

// ParseReference reads a name as docker does: "alpine" is docker.io/library/alpine:latest, and a name with a digest and
// no tag has no tag. It does without regular expressions, which would be compiled at every start.
func ParseReference(s string) (Reference, error) {
	r, why := parseReference(s)
	if why != "" {
		return Reference{}, fmt.Errorf("reference %q: %s", Clip(s), why)
	}
	return r, nil
}

func parseReference(s string) (r Reference, why string) {
	name := s
	if at := strings.IndexByte(s, '@'); at >= 0 {
		name, r.Digest = s[:at], digest.Digest(s[at+1:])
		if err := CheckDigest(r.Digest); err != nil {
			return r, err.Error()
		}
	}
	switch {
	case s == "":
		return r, "is empty"
	case strings.Contains(s, ".."):
		return r, `holds ".."`
	case name == "":
		return r, "has no repository"
	case len(s) == hexLen && isHex(s):
		return r, "64 hexadecimal digits are an image ID, not a name"
	}
	r.Domain, r.Path = splitDomain(name)
	if colon := strings.LastIndexByte(r.Path, ':'); colon >= 0 && colon > strings.LastIndexByte(r.Path, '/') {
		r.Path, r.Tag = r.Path[:colon], r.Path[colon+1:]
		if why := checkTag(r.Tag); why != "" {
			return r, why
		}
	} else if r.Digest == "" {
		r.Tag = "latest"
	}
	if r.Domain == defaultDomain && !strings.Contains(r.Path, "/") {
		if r.Path == "" {
			return r, "has no repository"
		}
		r.Path = officialPath + r.Path
	}
	if why := checkDomain(r.Domain); why != "" {
		return r, why
	}
	return r, checkPath(r.Path)
}

// splitDomain takes the first component for a registry if it looks like one: it has a dot, a port or an upper case
// letter, or is localhost.
func splitDomain(name string) (domain, path string) {
	first, rest, found := strings.Cut(name, "/")
	if !found || !looksLikeDomain(first) {
		return defaultDomain, name
	}
	if first == "index.docker.io" { // what the first docker clients wrote into their configuration
		first = defaultDomain
	}
	return first, rest
}

func looksLikeDomain(s string) bool {
	return strings.ContainsAny(s, ".:") || s == "localhost" || strings.ToLower(s) != s
}

func checkDomain(domain string) string {
	if len(domain) > maxDomain {
		return "registry has more than 255 characters"
	}
	var host, port string
	var hasPort bool
	if strings.HasPrefix(domain, "[") {
		end := strings.IndexByte(domain, ']')
		if end < 2 || strings.Trim(domain[1:end], "0123456789abcdefABCDEF:.") != "" {
			return "registry has no valid IPv6 address"
		}
		port = domain[end+1:]
		if port != "" {
			port, hasPort = strings.CutPrefix(port, ":")
			if !hasPort {
				return "registry has no valid port"
			}
		}
	} else {
		host, port, hasPort = strings.Cut(domain, ":")
		for label := range strings.SplitSeq(host, ".") {
			if !isLabel(label) {
				return "registry " + quoteClipped(domain) + " is no host name"
			}
		}
	}
	if hasPort && (port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "") {
		return "registry has no valid port"
	}
	return ""
}

func isLabel(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && !isUpper(s[i]) && (s[i] != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return s != ""
}

func checkPath(path string) string {
	if len(path) > maxPath {
		return "repository has more than 255 characters"
	}
	for component := range strings.SplitSeq(path, "/") {
		if why := checkComponent(component); why != "" {
			return why
		}
	}
	return ""
}

// checkComponent holds a component of a repository to runs of [a-z0-9], separated by one dot, one or two underscores,
// or any number of dashes.
func checkComponent(s string) string {
	if s == "" {
		return "repository has an empty component"
	}
	for i := 0; i < len(s); {
		start := i
		for i < len(s) && isAlnum(s[i]) {
			i++
		}
		if i == len(s) && i > start {
			return ""
		}
		if i < len(s) && isUpper(s[i]) {
			return "repository must be lower case"
		}
		if i < len(s) && !strings.ContainsRune("._-", rune(s[i])) {
			return fmt.Sprintf("repository holds %q", Clip(s[i:])[:1])
		}
		sep := i
		for i < len(s) && strings.IndexByte("._-", s[i]) >= 0 {
			i++
		}
		if run := s[sep:i]; sep == start || i == len(s) || run != "." && run != "_" && run != "__" && strings.Trim(run, "-") != "" {
			return "repository component " + quoteClipped(s) + " has a misplaced separator"
		}
	}
	return ""
}

func checkTag(tag string) string {
	if tag == "" {
		return "tag is empty"
	}
	if len(tag) > maxTag {
		return "tag has more than 128 characters"
	}
	for i := range len(tag) {
		if c := tag[i]; !isAlnum(c) && !isUpper(c) && c != '_' && (i == 0 || c != '.' && c != '-') {
			return "tag " + quoteClipped(tag) + " may hold letters, digits, _, . and -, and must begin with one of the first three"
		}
	}
	return ""
}

func quoteClipped(s string) string { return fmt.Sprintf("%q", Clip(s)) }
func isAlnum(c byte) bool          { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
func isUpper(c byte) bool          { return c >= 'A' && c <= 'Z' }

// Name is the reference without tag and digest.
func (r Reference) Name() string {
	if r.Domain == "" {
		return r.Path
	}
	return r.Domain + "/" + r.Path
}

// String is the full form; it is "" for the zero Reference.
func (r Reference) String() string { return r.Name() + r.suffix() }

// Familiar is the short form that people type; [ParseReference] reads it back.
func (r Reference) Familiar() string {
	if r.Domain != defaultDomain {
		return r.String()
	}
	first, _, _ := strings.Cut(r.Path, "/")
	short := strings.TrimPrefix(r.Path, officialPath)
	switch {
	case looksLikeDomain(first), len(short) == hexLen && isHex(short):
		return r.String() // would be read as something else
	case strings.Contains(short, "/"):
		return r.Path + r.suffix()
	}
	return short + r.suffix()
}

func (r Reference) suffix() string {
	var s string
	if r.Tag != "" {
		s = ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + string(r.Digest)
	}
	return s
}
