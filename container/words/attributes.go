package words

import (
	"encoding/csv"
	"errors"
	"fmt"
	"strings"
)

// Attributes reads KEY=VALUE,… as docker's flags have it: a line of CSV, in which a field with a comma may be quoted. It calls set for each
// field, until one is refused.
func Attributes(text string, set func(key, value string) error) error {
	fields, err := Fields(text)
	if err != nil {
		return err
	}
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return fmt.Errorf("%q has no value", field)
		}
		if err := set(strings.TrimSpace(key), value); err != nil {
			return err
		}
	}
	return nil
}

// Fields splits a line of CSV. An empty one is an error.
func Fields(text string) ([]string, error) {
	if text == "" {
		return nil, errors.New("value is empty")
	}
	return csv.NewReader(strings.NewReader(text)).Read()
}

// JoinFields is the line of CSV that [Fields] splits into fields.
func JoinFields(fields []string) string {
	var line strings.Builder
	w := csv.NewWriter(&line)
	_ = w.Write(fields) // a Builder has no errors
	w.Flush()
	return strings.TrimSuffix(line.String(), "\n")
}
