package cache

import (
	"regexp"
	"slices"
	"strings"

	"github.com/forge-build/forge/event"
)

// Diff lists which fields differ, from what to what.
//
// What a change is called depends on the field's name. "env" and "arg" hold K=V, and each variable is a change of its own. "files P" and "file P"
// hold digests of files: P is the change's name. "run" is a command line. Any other field is one change, with all its values as one text.
func Diff(old, new []Field) []event.Change {
	var changes []event.Change
	rest := slices.Clone(old)
	for _, f := range new {
		i := slices.IndexFunc(rest, f.equal)
		if i < 0 { // of fields with one name, those that are equal belong together
			i = slices.IndexFunc(rest, func(g Field) bool { return g.Name == f.Name && !slices.ContainsFunc(new, g.equal) })
		}
		if i < 0 {
			c := f.change(event.Added)
			c.New = f.text()
			changes = append(changes, c)
			continue
		}
		if !f.equal(rest[i]) {
			changes = append(changes, differences(rest[i], f)...)
		}
		rest = slices.Delete(rest, i, i+1)
	}
	for _, f := range rest {
		c := f.change(event.Removed)
		c.Old = f.text()
		changes = append(changes, c)
	}
	return changes
}

// change names a field as people know it.
func (f Field) change(how event.How) event.Change {
	c := event.Change{Field: f.Name, How: how}
	for _, kind := range []string{"files", "file"} {
		if path, ok := strings.CutPrefix(f.Name, kind+" "); ok {
			c.Field, c.Name = "file", path
		}
	}
	return c
}

// text is all values of a field. A command line is as people wrote it: without the shell.
func (f Field) text() string {
	values := f.Values
	if f.Name == "run" && len(values) == 3 && values[1] == "-c" {
		values = values[2:]
	}
	return strings.Join(values, " ")
}

func differences(old, new Field) []event.Change {
	if new.Name == "env" || new.Name == "arg" {
		return differentPairs(old, new)
	}
	c := new.change(event.Replaced)
	c.Old, c.New = old.text(), new.text()
	return []event.Change{c}
}

// differentPairs compares lists of K=V.
func differentPairs(old, new Field) []event.Change {
	values := func(f Field) map[string]string {
		m := map[string]string{}
		for _, pair := range f.Values {
			k, v, _ := strings.Cut(pair, "=")
			m[k] = v
		}
		return m
	}
	was, is := values(old), values(new)
	var changes []event.Change
	add := func(c event.Change) {
		if secretName(c.Name) {
			c.Old, c.New = "", ""
			if c.How == event.Replaced {
				c.How = event.Secret
			}
		}
		if !slices.Contains(changes, c) { // a list may name a variable twice
			changes = append(changes, c)
		}
	}
	for _, pair := range new.Values {
		k, _, _ := strings.Cut(pair, "=")
		if w, ok := was[k]; !ok {
			add(event.Change{Field: new.Name, Name: k, How: event.Added, New: is[k]})
		} else if w != is[k] {
			add(event.Change{Field: new.Name, Name: k, How: event.Replaced, Old: w, New: is[k]})
		}
	}
	for _, pair := range old.Values {
		if k, _, _ := strings.Cut(pair, "="); !has(is, k) {
			add(event.Change{Field: new.Name, Name: k, How: event.Removed, Old: was[k]})
		}
	}
	if len(changes) == 0 {
		return []event.Change{{Field: new.Name, How: event.Moved}}
	}
	return changes
}

func has(m map[string]string, k string) bool {
	_, ok := m[k]
	return ok
}

// secretName reports whether a variable's name says that its value is a secret: as BuildKit's rule SecretsUsedInArgOrEnv has it.
func secretName(name string) bool {
	const words = `(?i)(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)`
	ok, _ := regexp.MatchString(words, name)
	return ok
}
