package attest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/forge-build/forge/container/words"
)

// Options say what a build writes down about its image, beside the image. The zero value is nothing.
type Options struct {
	SBOM       bool   // the packages in it, as SPDX
	Provenance string // where it came from, as SLSA: "min", "max" (with build arguments, the build file and all steps), or "" for none
	BuilderID  string // a URI that says who builds; "" is forge's own
	Tool       string // version of this program
}

// Any reports whether something is asked for.
func (o Options) Any() bool { return o.SBOM || o.Provenance != "" }

// Wants reports whether statements with a type of predicate are asked for.
func (o Options) Wants(predicateType string) bool {
	if strings.HasPrefix(predicateType, prefixOf(KindSBOM)) {
		return o.SBOM
	}
	return o.Provenance != ""
}

// ParseOptions reads the values of docker's --sbom, --provenance and --attest: "true", "false" or attributes as in CSV, of which
// those of --attest begin with type=sbom or type=provenance. A later one counts for more than an earlier.
func ParseOptions(sbom, provenance string, attests []string) (o Options, err error) {
	for _, spec := range attests {
		fields, err := attributes(spec)
		kind := fields["type"]
		delete(fields, "type")
		switch {
		case err != nil:
		case kind == "sbom":
			err = o.setSBOM(fields)
		case kind == "provenance":
			err = o.setProvenance(fields)
		default:
			err = errors.New("must begin with type=sbom or type=provenance")
		}
		if err != nil {
			return o, fmt.Errorf("--attest %q: %w", spec, err)
		}
	}
	for _, flag := range []struct {
		name, value string
		set         func(map[string]string) error
	}{{"--sbom", sbom, o.setSBOM}, {"--provenance", provenance, o.setProvenance}} {
		if flag.value == "" {
			continue
		}
		fields, err := attributes(flag.value)
		if is, boolErr := strconv.ParseBool(flag.value); boolErr == nil {
			fields, err = map[string]string{"disabled": strconv.FormatBool(!is)}, nil
		}
		if err == nil {
			err = flag.set(fields)
		}
		if err != nil {
			return o, fmt.Errorf("%s %q: %w", flag.name, flag.value, err)
		}
	}
	return o, nil
}

// attributes reads KEY=VALUE,….
func attributes(text string) (map[string]string, error) {
	all := map[string]string{}
	return all, words.Attributes(text, func(key, value string) error {
		all[strings.ToLower(key)] = value
		return nil
	})
}

// takeDisabled takes the attribute disabled.
func takeDisabled(fields map[string]string) (bool, error) {
	value, ok := fields["disabled"]
	delete(fields, "disabled")
	if !ok {
		return false, nil
	}
	is, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("disabled=%s: must be true or false", value)
	}
	return is, nil
}

func (o *Options) setSBOM(fields map[string]string) error {
	off, err := takeDisabled(fields)
	if err != nil {
		return err
	}
	for key, value := range fields {
		if key == "generator" {
			return fmt.Errorf("generator=%s: forge reads the package databases itself and runs no generator: leave it out", value)
		}
		return fmt.Errorf("there is no attribute %q", key)
	}
	o.SBOM = !off
	return nil
}

func (o *Options) setProvenance(fields map[string]string) error {
	off, err := takeDisabled(fields)
	if err != nil {
		return err
	}
	mode := "min"
	for key, value := range fields {
		switch {
		case key == "mode" && (value == "min" || value == "max"):
			mode = value
		case key == "builder-id":
			o.BuilderID = value
		case key == "version" && value == "v1", key == "inline-only" && value == "false", key == "reproducible":
		case key == "mode":
			return fmt.Errorf("mode=%s: must be min or max", value)
		case key == "version":
			return fmt.Errorf("version=%s: forge writes v1", value)
		default:
			return fmt.Errorf("there is no attribute %s=%s", key, value)
		}
	}
	if o.Provenance = mode; off {
		o.Provenance = ""
	}
	return nil
}
