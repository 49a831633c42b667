package reapi

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// The messages are those of build/bazel/remote/execution/v2/remote_execution.proto, as far as they are used here. Encoded, they are
// canonical: fields in order, nothing unknown; a digest of one is the same wherever it is made.

// A Digest names content: the hexadecimal digits of its SHA-256, and its size in bytes.
type Digest struct {
	Hash string `pb:"1"`
	Size int64  `pb:"2"`
}

// DigestOf is the digest of bytes.
func DigestOf(data []byte) Digest {
	sum := sha256.Sum256(data)
	return Digest{hex.EncodeToString(sum[:]), int64(len(data))}
}

// Name is a digest as images write it.
func (d Digest) Name() digest.Digest { return digest.NewDigestFromEncoded(digest.SHA256, d.Hash) }

func (d Digest) String() string { return d.Hash + "/" + strconv.FormatInt(d.Size, 10) }

// check refuses what is no digest of SHA-256.
func (d Digest) check() error {
	if d.Size < 0 || d.Name().Validate() != nil {
		return fmt.Errorf("%.80q is no digest of SHA-256", d.String())
	}
	return nil
}

// ParseResource reads the name of a blob: what ends with HASH/SIZE.
func ParseResource(s string) (Digest, bool) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 {
		return Digest{}, false
	}
	size, err := strconv.ParseInt(parts[len(parts)-1], 10, 64)
	d := Digest{parts[len(parts)-2], size}
	return d, err == nil && d.check() == nil
}

// An Action is a command to execute on files. Its digest is what its result is kept under.
type Action struct {
	Command  *Digest   `pb:"1"`
	Input    *Digest   `pb:"2"` // root directory
	Timeout  *Duration `pb:"6"`
	NoCache  bool      `pb:"7"`
	Salt     []byte    `pb:"9"`
	Platform *Platform `pb:"10"`
}

// A Command is what an action executes.
type Command struct {
	Arguments []string   `pb:"1"`
	Env       []Property `pb:"2"` // by name
	Files     []string   `pb:"3"` // for servers before version 2.1; as Paths
	Platform  *Platform  `pb:"5"` // for servers before version 2.2
	Paths     []string   `pb:"7"` // that it makes
}

// A Property is a name and a value: of a platform, or a variable.
type Property struct {
	Name  string `pb:"1"`
	Value string `pb:"2"`
}

// A Platform says what a worker has to be.
type Platform struct {
	Properties []Property `pb:"1"` // by name
}

// NewPlatform is a platform of properties; nil without any.
func NewPlatform(properties map[string]string) *Platform {
	if len(properties) == 0 {
		return nil
	}
	p := &Platform{}
	for name, value := range properties {
		p.Properties = append(p.Properties, Property{name, value})
	}
	slices.SortFunc(p.Properties, func(a, b Property) int { return strings.Compare(a.Name, b.Name) })
	return p
}

// A Directory lists what is in it, each list by name.
type Directory struct {
	Files       []FileNode      `pb:"1"`
	Directories []DirectoryNode `pb:"2"`
}

// A FileNode is a file of a directory.
type FileNode struct {
	Name       string  `pb:"1"`
	Digest     *Digest `pb:"2"`
	Executable bool    `pb:"4"`
}

// A DirectoryNode is a directory of a directory.
type DirectoryNode struct {
	Name   string  `pb:"1"`
	Digest *Digest `pb:"2"`
}

// An OutputFile is a file that an action has made.
type OutputFile struct {
	Path       string  `pb:"1"`
	Digest     *Digest `pb:"2"`
	Executable bool    `pb:"4"`
	Contents   []byte  `pb:"5"` // if they were asked for and are small
}

// An ActionResult is what came of an action.
type ActionResult struct {
	Files        []OutputFile `pb:"2"`
	ExitCode     int32        `pb:"4"`
	Stdout       []byte       `pb:"5"`
	StdoutDigest *Digest      `pb:"6"`
	Stderr       []byte       `pb:"7"`
	StderrDigest *Digest      `pb:"8"`
	Metadata     *Metadata    `pb:"9"`
}

// File is an output by its path; nil if there is none.
func (r *ActionResult) File(path string) *OutputFile {
	for i := range r.Files {
		if f := &r.Files[i]; f.Path == path && f.Digest != nil && f.Digest.check() == nil {
			return f
		}
	}
	return nil
}

// A Metadata says where and when an action was executed.
type Metadata struct {
	Worker    string     `pb:"1"`
	Queued    *Timestamp `pb:"2"`
	Started   *Timestamp `pb:"3"`
	Completed *Timestamp `pb:"4"`
	RunStart  *Timestamp `pb:"7"`
	RunEnd    *Timestamp `pb:"8"`
}

// A Timestamp is a time, since 1970.
type Timestamp struct {
	Seconds int64 `pb:"1"`
	Nanos   int32 `pb:"2"`
}

// Time is the time; the zero time of nil, and of what JSON cannot write.
func (t *Timestamp) Time() time.Time {
	const end = 253402300800 // the year 10000
	if t == nil || t.Seconds < 0 || t.Seconds >= end || t.Nanos < 0 || t.Nanos >= 1e9 {
		return time.Time{}
	}
	return time.Unix(t.Seconds, int64(t.Nanos)).UTC()
}

// A Duration is a length of time.
type Duration struct {
	Seconds int64 `pb:"1"`
	Nanos   int32 `pb:"2"`
}

// NewDuration is a length of time as a message.
func NewDuration(d time.Duration) *Duration {
	return &Duration{int64(d / time.Second), int32(d % time.Second)}
}
