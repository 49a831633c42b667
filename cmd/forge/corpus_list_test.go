package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A tree is a file system: entries by path.
type tree map[string]*entry

type entry struct {
	tar.Header
	content string // quoted, or size and digest
	link    string // what a hard link is another name of, which is the first name it has
}

// recent is what makes a time the time of the test, which no case can know.
const recent = 30 * 24 * time.Hour

// baseHistory is how many entries the base image's history has.
const baseHistory = 3

// maxQuoted is how much of a file a list shows before it shows a digest.
const maxQuoted = 300

func readTree(r io.Reader) (tree, error) {
	t := tree{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			t.nameLinks()
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean("/" + h.Name)[1:]
		if name == "" {
			continue
		}
		e := &entry{Header: *h}
		if h.Typeflag == tar.TypeLink {
			e.link = path.Clean("/" + h.Linkname)[1:]
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		if text := string(content); len(text) <= maxQuoted && utf8.ValidString(text) {
			e.content = strconv.Quote(text)
		} else {
			e.content = fmt.Sprintf("%d %.12x", len(content), sha256.Sum256(content))
		}
		t[name] = e
	}
}

// nameLinks gives the content of a file with several names to the first of them, whichever the tar had it under.
func (t tree) nameLinks() {
	names := map[string][]string{}
	for name, e := range t {
		if e.link != "" {
			names[e.link] = append(names[e.link], name)
		}
	}
	for target, group := range names {
		group = append(group, target)
		slices.Sort(group)
		file := t[target]
		for i, name := range group {
			if t[name] = (&entry{Header: file.Header, content: file.content, link: group[0]}); i == 0 {
				t[name].link = ""
			}
		}
	}
}

// list writes a line for every entry, sorted. Of a tree that has base's busybox, what is as in base is left out, and what
// is in base alone has a minus.
// Owners are told where they are not root, times where they are not the time of the test, and mtime is T.
func (t tree) list(base tree, mtime time.Time) string {
	if t["bin/busybox"] == nil {
		base = nil
	}
	var lines []string
	for name, e := range t {
		line := e.line(mtime, base[name] != nil)
		if b := base[name]; b == nil || b.line(mtime, true) != line {
			lines = append(lines, quoteName(name)+" "+line)
		}
	}
	for name := range base {
		if t[name] == nil {
			lines = append(lines, quoteName(name)+" -")
		}
	}
	slices.Sort(lines)
	return strings.Join(append(lines, ""), "\n")
}

func (e *entry) line(mtime time.Time, based bool) string {
	if e.link != "" {
		return "= " + quoteName(e.link)
	}
	var words []string
	mode := fmt.Sprintf("%04o", e.Mode&0o7777)
	switch e.Typeflag {
	case tar.TypeDir:
		words = append(words, "dir", mode)
	case tar.TypeSymlink:
		words = append(words, "-> "+quoteName(e.Linkname))
	case tar.TypeFifo:
		words = append(words, "fifo", mode)
	case tar.TypeChar:
		words = append(words, fmt.Sprintf("char %d:%d", e.Devmajor, e.Devminor), mode)
	case tar.TypeBlock:
		words = append(words, fmt.Sprintf("block %d:%d", e.Devmajor, e.Devminor), mode)
	default:
		words = append(words, mode, e.content)
	}
	if e.Uid != 0 || e.Gid != 0 {
		words = append(words, fmt.Sprintf("%d:%d", e.Uid, e.Gid))
	}
	old := time.Since(e.ModTime) > recent
	switch {
	case !old || e.Typeflag == tar.TypeDir && based:
	case e.ModTime.Equal(mtime):
		words = append(words, "@T")
	default:
		words = append(words, fmt.Sprint("@", e.ModTime.Unix()))
	}
	var attributes []string
	for key, value := range e.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			attributes = append(attributes, name+"="+strconv.QuoteToASCII(value))
		}
	}
	slices.Sort(attributes)
	return strings.Join(append(words, attributes...), " ")
}

// quoteName quotes a name that is not plain.
func quoteName(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == utf8.RuneError }) {
		return strconv.QuoteToASCII(name)
	}
	return name
}

// readImages lists the configurations of the images in an archive.
func readImages(t *testing.T, file string) string {
	f, err := os.Open(file)
	check(t, err)
	defer f.Close() //nolint:errcheck // read only
	blobs := map[string][]byte{}
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, err)
		if h.Name != "index.json" && h.Size > 1<<20 {
			continue // a layer
		}
		blobs[path.Base(h.Name)], err = io.ReadAll(tr)
		check(t, err)
	}
	var out strings.Builder
	var list func(key string)
	list = func(key string) {
		var document struct {
			Config      *ocispec.Descriptor
			Manifests   []ocispec.Descriptor
			Annotations map[string]string
		}
		check(t, json.Unmarshal(blobs[key], &document))
		for _, d := range document.Manifests {
			list(d.Digest.Encoded())
		}
		if document.Config != nil {
			listConfig(t, &out, blobs[document.Config.Digest.Encoded()])
		}
		for _, k := range slices.Sorted(keys(document.Annotations)) {
			fmt.Fprintf(&out, "annotation: %s=%s\n", k, document.Annotations[k])
		}
	}
	list("index.json")
	return out.String()
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// listConfig writes a line for everything in a configuration but what differs from machine to machine.
func listConfig(t *testing.T, w io.Writer, text []byte) {
	var c struct {
		ocispec.Image
		Config map[string]json.RawMessage `json:"config"`
	}
	check(t, json.Unmarshal(text, &c))
	fmt.Fprintln(w, "platform:", strings.TrimSuffix(c.OS+"/"+c.Architecture+"/"+c.Variant, "/"))
	if c.Author != "" {
		fmt.Fprintln(w, "author:", c.Author)
	}
	if c.Created != nil && time.Since(*c.Created) > recent {
		fmt.Fprintln(w, "created:", c.Created.Unix())
	}
	for _, key := range slices.Sorted(keys(c.Config)) {
		fmt.Fprintf(w, "%s: %s\n", key, c.Config[key])
	}
	layers := 0
	for i, h := range c.History {
		if c.History[0].CreatedBy == "forge import" && i < baseHistory { // newCorpus has made it
			if layers = 1; i == 0 {
				fmt.Fprintln(w, "+ base")
			}
			continue
		}
		sign := "+"
		if h.EmptyLayer {
			sign = "-"
		} else {
			layers++
		}
		line := sign + " " + strconv.Quote(h.CreatedBy)
		if h.Comment != "buildkit.dockerfile.v0" {
			line += " (" + h.Comment + ")"
		}
		if h.Author != "" {
			line += " by " + h.Author
		}
		if h.Created != nil && time.Since(*h.Created) > recent {
			line += fmt.Sprint(" @", h.Created.Unix())
		}
		fmt.Fprintln(w, line)
	}
	if n := len(c.RootFS.DiffIDs); n != layers {
		fmt.Fprintf(w, "%d layers, of which the history knows %d\n", n, layers)
	}
}
