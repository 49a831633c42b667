package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v3"
)

// recipe writes what is at a path of a file of ci/ into a file: recipe OUT FILE KEY…. A list is written one a line. A key may be
// the number of an item. Of a Jenkinsfile it is the script of sh, without any key. What the runner would put in has to be put in
// then: recipes say ${{ x }}, $(x) or ${x}.
func recipe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: recipe OUT FILE KEY…")
	}
	text, err := os.ReadFile(filepath.Join(ts.Getenv("CI_RECIPES"), args[1]))
	ts.Check(err)
	if len(args) == 2 {
		script := regexp.MustCompile(`(?s)sh '''(.*?)'''`).FindSubmatch(text)
		if script == nil {
			ts.Fatalf("%s: there is no script", args[1])
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), script[1], 0o600))
		return
	}
	var document any
	ts.Check(yaml.Unmarshal(text, &document))
	value, err := lookUp(document, args[2:])
	if err != nil {
		ts.Fatalf("%s: %v", args[1], err)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(value), 0o600))
}

// lookUp is the text at a path.
func lookUp(value any, keys []string) (string, error) {
	for _, key := range keys {
		switch v := value.(type) {
		case map[string]any:
			value = v[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(v) {
				return "", fmt.Errorf("%v: there is no item %s", keys, key)
			}
			value = v[i]
		default:
			value = nil
		}
	}
	switch v := value.(type) {
	case nil:
		return "", fmt.Errorf("%v: there is nothing", keys)
	case []any:
		var lines []string
		for _, item := range v {
			lines = append(lines, fmt.Sprint(item))
		}
		return strings.Join(lines, "\n") + "\n", nil
	}
	return fmt.Sprint(value) + "\n", nil
}
