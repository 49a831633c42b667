package buildkit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/internal/grpc"
	"github.com/forge-build/forge/internal/proto"
)

// exportedOf is what was made, under BuildKit's names.
func exportedOf(r *forge.BuildResult) (map[string]string, error) {
	d := r.Shown()
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	all := map[string]string{
		"containerimage.digest": d.Digest.String(), "containerimage.descriptor": base64.StdEncoding.EncodeToString(text),
	}
	if len(r.Images) == 1 {
		id := r.Images[0].ID().String()
		all["containerimage.config.digest"] = id
		if len(r.Pushed) == 0 { // as docker's engine, which knows images by that
			all["containerimage.digest"] = id
		}
	}
	if len(r.Tags) > 0 {
		all["image.name"] = r.TagNames()
	}
	return all, nil
}

// The messages of a graph, as far as a result is one (solver/pb/ops.proto).
type (
	graphOp struct {
		Inputs []graphInput `pb:"1"`
		Source *graphSource `pb:"3"`
	}
	graphInput struct {
		Digest string `pb:"1"`
	}
	graphSource struct {
		Identifier string `pb:"1"`
	}
)

// resultName begins the name of an image that a graph of ours stands for.
const resultName = "docker-image://forge.invalid/result@"

// resultOf names a result. Its graph is one source, the image, so that the client can hand it to another build as a named context.
func resultOf(r *forge.BuildResult) (*result, error) {
	var c proto.Codec
	source, err := c.Marshal(&graphOp{Source: &graphSource{Identifier: resultName + r.Descriptor.Digest.String()}})
	if err != nil {
		return nil, err
	}
	first := digest.FromBytes(source).String()
	end, err := c.Marshal(&graphOp{Inputs: []graphInput{{Digest: first}}})
	if err != nil {
		return nil, err
	}
	def := &definition{Def: [][]byte{source, end}, Metadata: map[string]*empty{first: {}, digest.FromBytes(end).String(): {}}}
	return &result{Ref: &ref{ID: r.Descriptor.Digest.String(), Def: def}}, nil
}

// imageOf is the image that a graph of ours stands for.
func imageOf(d *definition) (string, error) {
	if d != nil {
		var c proto.Codec
		for _, b := range d.Def {
			var op graphOp
			if err := c.Unmarshal(b, &op); err != nil {
				return "", err
			}
			if op.Source == nil {
				continue
			}
			if name, ok := strings.CutPrefix(op.Source.Identifier, resultName); ok {
				return name, nil
			}
		}
	}
	return "", errors.New("is a graph of BuildKit's (LLB) that was not built here; name a directory, an image, or target:STAGE")
}

// answer answers a question about a build.
func answer(ctx context.Context, home *forge.Home, o forge.BuildOptions, id string) (*result, error) {
	var text, data bytes.Buffer
	var err error
	switch id {
	case "frontend.lint":
		o.Events = nil // what is found is the answer
		var found forge.Findings
		if found, err = home.Check(ctx, o); err == nil || len(found.Warnings) > 0 {
			err = errors.Join(found.Print(&text), found.JSON(&data))
		}
	case "frontend.outline":
		err = write(&text, &data, func() (answered, error) { return home.Outline(ctx, o) })
	case "frontend.targets":
		err = write(&text, &data, func() (answered, error) { return home.Targets(ctx, o) })
	case "frontend.subrequests.describe":
		data.WriteString(`[{"name":"frontend.lint","version":"1.0.0"},{"name":"frontend.outline","version":"1.0.0"},{"name":"frontend.targets","version":"1.0.0"}]`)
		text.WriteString("frontend.lint\nfrontend.outline\nfrontend.targets\n")
	default:
		return nil, grpc.Errorf(grpc.Unimplemented, "unsupported request %q: there are check, outline and targets", id)
	}
	if err != nil {
		return nil, buildError(err)
	}
	return &result{Metadata: map[string][]byte{"result.json": data.Bytes(), "result.txt": text.Bytes(), "version": []byte("1.0.0")}}, nil
}

// An answered question can be printed for people and for programs.
type answered interface {
	Text(w io.Writer) error
	JSON(w io.Writer) error
}

func write(text, data io.Writer, ask func() (answered, error)) error {
	a, err := ask()
	if err != nil {
		return err
	}
	return errors.Join(a.Text(text), a.JSON(data))
}

// upload reads a file that the client sends for a build, such as a tar on its standard input.
func (s *session) upload(ctx context.Context, path string) io.Reader {
	return newCallConn(s.Start(ctx, upload, grpc.Metadata{"urlpath": {path}, "urlhost": {"buildkit-session"}}))
}
