package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// flag is a boolean of the query: true is everything but docker's words for no.
func (c *call) flag(key string) bool {
	switch strings.ToLower(strings.TrimSpace(c.query.Get(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// number is an integer of the query; ok says whether it is there.
func (c *call) number(key string) (n int, ok bool, err error) {
	text := c.query.Get(key)
	if text == "" {
		return 0, false, nil
	}
	if n, err = strconv.Atoi(text); err != nil {
		return 0, false, invalid(fmt.Errorf("invalid value %q for %s: it is to be a number", text, key))
	}
	return n, true, nil
}

// filters are those of the query as command lines have them, KEY=VALUE, sorted.
func (c *call) filters() ([]string, error) {
	list, err := parseFilters(c.query.Get("filters"))
	if err != nil {
		return nil, invalid(err)
	}
	return list, nil
}

// parseFilters reads filters in both shapes that clients send: {"label":{"a=b":true}} and {"label":["a=b"]}.
func parseFilters(text string) (list []string, err error) {
	if text == "" {
		return nil, nil
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &keys); err != nil {
		return nil, errors.New("invalid filter: " + err.Error())
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		var values []string
		if json.Unmarshal(keys[key], &values) != nil {
			var set map[string]bool
			if err := json.Unmarshal(keys[key], &set); err != nil {
				return nil, fmt.Errorf("invalid filter '%s': %w", key, err)
			}
			maps.DeleteFunc(set, func(_ string, on bool) bool { return !on })
			values = slices.Sorted(maps.Keys(set))
		}
		for _, value := range values {
			list = append(list, key+"="+value)
		}
	}
	return list, nil
}
