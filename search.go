package forge

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/registry"
)

// SearchOptions say what a search is for.
type SearchOptions struct {
	RemoteOptions
	Limit   int      // how many at most, 1 to 100
	Filters []string // stars=N, is-official=true|false or is-automated=true|false
}

// Search looks for repositories on Docker Hub or, for a term that begins with its name, on another registry, those with most stars
// first.
func Search(ctx context.Context, term string, o SearchOptions) ([]registry.Found, error) {
	keep, err := foundFilter(o.Filters)
	if err != nil {
		return nil, err
	}
	client := o.client()
	defer client.Close() //nolint:errcheck // of idle connections
	found, err := client.Find(ctx, term, o.Limit)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(f registry.Found) bool { return !keep(f) })
	slices.SortStableFunc(found, func(a, b registry.Found) int { return b.Stars - a.Stars })
	return found, nil
}

// foundFilter reports of what has been found whether it is asked for.
func foundFilter(filters []string) (keep func(registry.Found) bool, err error) {
	var tests []func(registry.Found) bool
	for _, filter := range filters {
		key, value, _ := strings.Cut(filter, "=")
		switch key {
		case "stars":
			least, err := strconv.Atoi(value)
			if err != nil {
				return nil, words.Invalid("invalid filter 'stars=%s'", value)
			}
			tests = append(tests, func(f registry.Found) bool { return f.Stars >= least })
		case "is-official", "is-automated":
			is, err := strconv.ParseBool(value)
			if err != nil {
				return nil, words.Invalid("invalid filter '%s=%s'", key, value)
			}
			tests = append(tests, func(f registry.Found) bool {
				if key == "is-official" {
					return f.Official == is
				}
				return f.Automated == is
			})
		default:
			return nil, words.Invalid("invalid filter '%s'", key)
		}
	}
	return func(f registry.Found) bool {
		return !slices.ContainsFunc(tests, func(test func(registry.Found) bool) bool { return !test(f) })
	}, nil
}
