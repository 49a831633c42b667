package web

import (
	"net/url"
	"strings"
)

// masked stands in the place of what must not be shown.
const masked = "xxxxx"

// Redact masks in an address what gives access: the name and password before the host, and values of the query that are
// tokens, keys or signatures. A name alone is a secret for http and https, where it is the documented form of a token; for
// other schemes (ssh://git@host) and for git's user@host:path it is not.
func Redact(address string) string {
	scheme, login, rest, ok := splitLogin(address)
	if !ok {
		return address
	}
	shown := scheme + "://"
	switch {
	case login == "":
	case strings.HasPrefix(strings.ToLower(scheme), "http") || strings.Contains(login, ":"):
		shown += masked + "@"
	default:
		shown += login + "@"
	}
	return shown + redactQuery(rest)
}

// RedactText redacts each address in a text, such as the output of a program.
func RedactText(text string) string {
	const ends = " \t\r\n'\"`<>"
	var b strings.Builder
	for {
		i := strings.Index(text, "://")
		if i < 0 {
			return b.String() + text
		}
		start := strings.LastIndexAny(text[:i], ends+"([{=,;") + 1
		end := len(text)
		if n := strings.IndexAny(text[i:], ends); n >= 0 {
			end = i + n
		}
		b.WriteString(text[:start])
		b.WriteString(Redact(text[start:end]))
		text = text[end:]
	}
}

// WithoutLogin removes name and password from an address, which stays usable.
func WithoutLogin(address string) string {
	scheme, login, rest, ok := splitLogin(address)
	if !ok || login == "" {
		return address
	}
	return scheme + "://" + rest
}

// ParseURL is url.Parse with an error that does not show the address.
func ParseURL(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, withoutURL(err)
	}
	return u, nil
}

// splitLogin takes an address apart. It reads more than [url.Parse] accepts: a password may hold any character.
func splitLogin(address string) (scheme, login, rest string, ok bool) {
	scheme, rest, ok = strings.Cut(address, "://")
	if !ok {
		return "", "", "", false
	}
	end := strings.IndexAny(rest, "/?#\\")
	if end < 0 {
		end = len(rest)
	}
	at := strings.LastIndexByte(rest[:end], '@')
	if _, port, found := strings.Cut(rest[:end], ":"); at < 0 && found && strings.Trim(port, "0123456789") != "" && !strings.HasPrefix(rest, "[") {
		at = strings.LastIndexByte(rest, '@') // what looks like a port is the beginning of a password
	}
	if at < 0 {
		return scheme, "", rest, true
	}
	return scheme, rest[:at], rest[at+1:], true
}

// redactQuery masks values in the query of what follows "scheme://login@".
func redactQuery(rest string) string {
	rest, fragment, hasFragment := strings.Cut(rest, "#")
	before, query, _ := strings.Cut(rest, "?")
	var shown strings.Builder
	shown.WriteString(rest[:min(len(before)+1, len(rest))]) // with the "?", if there is one
	for query != "" {
		end := strings.IndexAny(query, "&;")
		if end < 0 {
			end = len(query)
		}
		if name, value, ok := strings.Cut(query[:end], "="); ok && value != "" && isSecretName(name) {
			shown.WriteString(name + "=" + masked)
		} else {
			shown.WriteString(query[:end])
		}
		next := min(end+1, len(query))
		shown.WriteString(query[end:next])
		query = query[next:]
	}
	if hasFragment {
		shown.WriteString("#" + fragment)
	}
	return shown.String()
}

// isSecretName reports whether a parameter of a query by its name holds a secret: X-Amz-Signature, access_token, sig.
func isSecretName(name string) bool {
	if plain, err := url.QueryUnescape(name); err == nil {
		name = plain
	}
	name = strings.ToLower(name)
	for part := range strings.FieldsFuncSeq(name, func(r rune) bool { return r < 'a' || r > 'z' }) {
		switch part {
		case "sig", "key", "pwd", "pass", "auth", "jwt", "sas", "pat":
			return true
		}
	}
	for _, word := range []string{"token", "secret", "passw", "passphrase", "signature", "credential", "apikey", "accesskey", "authorization", "session"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}
