package forge

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/forge-build/forge/container/words"
)

// An Output says what to make of what was built, as docker's --output does.
type Output struct {
	Type  string            // image, registry, docker, oci, tar, local or cacheonly
	Dest  string            // file or directory; "-" is Out
	Attrs map[string]string // name=, push=, compression=, compression-level=, force-compression=, registry.insecure=, special=, tar=

	Out    io.Writer    // for Dest "-"
	Files  LocalOutput  // of type local: takes the files instead of Dest; dir is "", or the platform's if there are several
	Layout ContentStore // of type oci or docker with tar=false: takes the blobs instead of Dest

	annotations map[string]string
}

// ParseOutput reads docker's syntax: "type=oci,dest=x.tar" with fields as in CSV, a directory (type=local), or "-"
// (type=tar).
func ParseOutput(s string, stdout io.Writer) (Output, error) {
	o := Output{Attrs: map[string]string{}, Out: stdout}
	switch {
	case s == "":
		return o, errors.New("output: empty")
	case s == "-":
		o.Type, o.Dest = "tar", "-"
		return o, nil
	case !strings.Contains(s, "="):
		o.Type, o.Dest = "local", s
		return o, nil
	}
	err := words.Attributes(s, o.set)
	if err == nil {
		err = o.check()
	}
	if err != nil {
		return o, fmt.Errorf("output %q: %w", s, err)
	}
	return o, nil
}

// set takes a field. What would not be done is refused.
func (o *Output) set(key, value string) error {
	for _, prefix := range []string{"annotation.", "annotation-manifest.", "annotation-index."} {
		if name, ok := strings.CutPrefix(key, prefix); ok {
			if o.annotations == nil {
				o.annotations = map[string]string{}
			}
			o.annotations[name] = value
			return nil
		}
	}
	key = strings.ToLower(key)
	switch key {
	case "type":
		o.Type = value
		return nil
	case "dest":
		o.Dest = value
		return nil
	case "name", "compression", "compression-level":
		o.Attrs[key] = value
		return nil
	case "push", "force-compression", "registry.insecure", "rewrite-timestamp", "unpack", "buildinfo",
		"oci-mediatypes", "tar", "store", "platform-split", "push-by-digest", "name-canonical", "special":
	default:
		return fmt.Errorf("there is no attribute %q", key)
	}
	is, err := strconv.ParseBool(value)
	if err != nil {
		return fmt.Errorf("%s=%s: must be true or false", key, value)
	}
	o.Attrs[key] = strconv.FormatBool(is)
	switch key {
	case "oci-mediatypes", "store", "platform-split":
		if !is {
			return fmt.Errorf("%s=false is not done here: it is always true", key)
		}
	case "push-by-digest", "name-canonical":
		if is {
			return fmt.Errorf("%s is not done here: push with a name", key)
		}
	}
	return nil
}

func (o *Output) check() error {
	known := []string{"image", "registry", "docker", "oci", "tar", "local", "cacheonly"}
	switch {
	case !slices.Contains(known, o.Type):
		return fmt.Errorf("type %q is not one of %s", o.Type, strings.Join(known, ", "))
	case o.Type == "local" && (o.Dest == "" || o.Dest == "-"):
		return errors.New("needs dest=DIRECTORY")
	case o.Attrs["special"] != "" && o.Type != "local":
		return fmt.Errorf("special is an attribute of type=local: type %s keeps device nodes, set-uid and set-gid bits", o.Type)
	case o.directory() && o.Type != "oci" && o.Type != "docker":
		return fmt.Errorf("tar=false is for types oci and docker, which then are a directory; type %s is not", o.Type)
	case o.directory() && (o.Dest == "" || o.Dest == "-"):
		return errors.New("tar=false needs dest=DIRECTORY")
	case (o.Type == "tar" || o.Type == "oci") && o.Dest == "":
		o.Dest = "-"
	case (o.Type == "image" || o.Type == "registry" || o.Type == "cacheonly") && o.Dest != "":
		return fmt.Errorf("type %s has no dest", o.Type)
	}
	_, err := o.compression()
	return err
}
