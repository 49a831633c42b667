package logs

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/docker/go-units"

	"github.com/forge-build/forge/container/words"
)

// A Config says how a log is kept. It is plain data.
type Config struct {
	MaxSize  int64  `json:"maxSize,omitempty"` // bytes from which on a file is rotated before the next record; 0 is never
	MaxFiles int    `json:"maxFiles"`          // how many files are kept, with the one that is written to; at least 1
	Compress bool   `json:"compress,omitempty"`
	Attrs    string `json:"attrs,omitempty"` // a JSON object that each record carries
}

// A Subject is the container that options speak of: the names of labels and variables, and a template of it.
type Subject struct {
	ID, Name, ImageID, ImageName string
	Env                          []string // KEY=VALUE
	Labels                       map[string]string
}

// ParseConfig reads the driver and the options of a log with docker's rules and in docker's words. Driver "" is
// json-file. The Config of driver none is nil: nothing is kept.
//
// docker lets a log of json-file grow without end unless it is told otherwise. Here it is three files of 10 MB, and
// max-size=-1 asks for docker's way. Driver local has docker's limits, five files of 20 MiB that are compressed, and
// the format of json-file. Mode non-blocking is accepted and changes nothing: a record waits for no reader.
func ParseConfig(driver string, options map[string]string, subject Subject) (*Config, error) {
	var c Config
	switch driver {
	case "none":
		return nil, nil //nolint:nilnil // the answer is: no log
	case "", "json-file":
		c = Config{MaxSize: 10 * units.MB, MaxFiles: 3}
	case "local":
		c = Config{MaxSize: 20 * units.MiB, MaxFiles: 5, Compress: true}
	default:
		return nil, fmt.Errorf("logger: no log driver named '%s' is registered", driver)
	}
	err := checkMode(options)
	if err != nil {
		return nil, err
	}
	if err := checkNames(driver, options); err != nil {
		return nil, err
	}
	if driver == "local" {
		err = c.local(options)
	} else {
		err = c.jsonFile(options)
	}
	if err != nil {
		return nil, err
	}
	c.Attrs, err = attributes(options, subject)
	return &c, err
}

// checkMode looks at the options that all drivers of docker have.
func checkMode(options map[string]string) error {
	mode := options["mode"]
	if !slices.Contains([]string{"", "blocking", "non-blocking"}, mode) {
		return fmt.Errorf("logger: logging mode not supported: %s", mode)
	}
	size, ok := options["max-buffer-size"]
	if !ok {
		return nil
	}
	if mode != "non-blocking" {
		return errors.New("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
	}
	if _, err := units.RAMInBytes(size); err != nil {
		return fmt.Errorf("error parsing option max-buffer-size: %w", err)
	}
	return nil
}

func checkNames(driver string, options map[string]string) error {
	for _, key := range sortedKeys(options) {
		switch key {
		case "mode", "max-buffer-size", "max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag":
		default:
			if driver == "local" {
				return fmt.Errorf("unknown log opt '%s' for log driver local", key)
			}
			return fmt.Errorf("unknown log opt '%s' for json-file log driver", key)
		}
	}
	return nil
}

func (c *Config) jsonFile(options map[string]string) (err error) {
	if s, ok := options["max-size"]; ok && s != "-1" {
		if c.MaxSize, err = units.FromHumanSize(s); err != nil {
			return err
		}
		if c.MaxSize <= 0 {
			return errors.New("max-size must be a positive number")
		}
	} else if ok {
		c.MaxSize = 0
	}
	if s, ok := options["max-file"]; ok {
		if c.MaxFiles, err = strconv.Atoi(s); err != nil {
			return err
		}
		if c.MaxFiles < 1 {
			return errors.New("max-file cannot be less than 1")
		}
	}
	if s, ok := options["compress"]; ok {
		if c.Compress, err = strconv.ParseBool(s); err != nil {
			return err
		}
	}
	if c.Compress && (c.MaxFiles == 1 || c.MaxSize == 0) {
		return errors.New("compress cannot be true when max-file is less than 2 or max-size is not set")
	}
	return nil
}

func (c *Config) local(options map[string]string) (err error) {
	if s, ok := options["max-size"]; ok {
		if c.MaxSize, err = units.FromHumanSize(s); err != nil {
			return fmt.Errorf("invalid value for max-size: %s: %w", s, err)
		}
	}
	if s, ok := options["max-file"]; ok {
		if c.MaxFiles, err = strconv.Atoi(s); err != nil {
			return fmt.Errorf("invalid value for max-file: %s: %w", s, err)
		}
	}
	if s, ok := options["compress"]; ok {
		if c.Compress, err = strconv.ParseBool(s); err != nil {
			return fmt.Errorf("invalid boolean value for compress: %w", err)
		}
	}
	switch {
	case c.MaxSize < 0:
		return errors.New("max-size must not be negative")
	case c.MaxFiles < 0:
		return errors.New("max-file must not be negative")
	case c.Compress && c.MaxFiles <= 1:
		return errors.New("compression cannot be enabled when max file count is 1")
	}
	c.MaxFiles = max(c.MaxFiles, 1)
	return nil
}

// attributes is what the options labels, env and tag take from the subject, as a JSON object; "" if that is nothing.
func attributes(options map[string]string, subject Subject) (string, error) {
	env := map[string]string{}
	for _, e := range subject.Env {
		if key, value, ok := strings.Cut(e, "="); ok {
			env[key] = value
		}
	}
	attrs := map[string]string{}
	for _, option := range []string{"labels", "env"} { // a variable goes before a label of its name
		values := subject.Labels
		if option == "env" {
			values = env
		}
		for key := range strings.SplitSeq(options[option], ",") {
			if value, ok := values[key]; ok {
				attrs[key] = value
			}
		}
		pattern := options[option+"-regex"]
		if pattern == "" {
			continue
		}
		expr, err := regexp.Compile(pattern)
		if err != nil {
			return "", err
		}
		for key, value := range values {
			if expr.MatchString(key) {
				attrs[key] = value
			}
		}
	}
	tag, err := subject.tag(options["tag"])
	if err != nil {
		return "", err
	}
	if tag != "" {
		attrs["tag"] = tag
	}
	if len(attrs) == 0 {
		return "", nil
	}
	text, err := json.Marshal(attrs)
	return string(text), err
}

// tag fills in the template of option tag, in which docker's fields and functions stand.
func (s Subject) tag(text string) (string, error) {
	t, err := template.New("log-tag").Funcs(words.TemplateFunctions()).Parse(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]string{
		"ID": s.ID[:min(len(s.ID), 12)], "FullID": s.ID, "Name": s.Name, "DaemonName": "forge",
		"ImageID": s.ImageID[:min(len(s.ImageID), 12)], "ImageFullID": s.ImageID, "ImageName": s.ImageName,
	})
	return b.String(), err
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
