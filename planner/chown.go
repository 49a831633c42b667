package planner

import (
	"strconv"
	"strings"
)

// A Principal is a user or a group as the build file names it: by name or by number. The zero value names nobody.
type Principal struct {
	Name string
	ID   *uint32 // if Name is a number, or "root"
}

// byName reports whether the name has to be looked up.
func (p Principal) byName() bool { return p.Name != "" && p.ID == nil }

// A Chown is the value of --chown, read but not yet looked up.
type Chown struct{ User, Group Principal }

// ParseChown reads USER[:GROUP]. A name that looks like a number is a number.
func ParseChown(s string) Chown {
	user, group, _ := strings.Cut(s, ":")
	return Chown{principal(user), principal(group)}
}

func principal(name string) Principal {
	p := Principal{Name: name}
	if id, ok := parseID(name); ok {
		p.ID = &id
	}
	return p
}

// parseID reads a numeric id. What is no number of 31 bits is a name.
func parseID(s string) (uint32, bool) {
	if s == "root" {
		return 0, true
	}
	n, err := strconv.ParseInt(s, 10, 32)
	return uint32(n), err == nil && n >= 0
}

// ByName reports whether a name has to be looked up.
func (c Chown) ByName() bool { return c.User.byName() || c.Group.byName() }
