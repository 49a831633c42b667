package buildkit

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"
	"unicode"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/event/solve"
	"github.com/forge-build/forge/internal/grpc"
)

// A build is one that a client has given a name. The service's mu guards it.
type build struct {
	request  *solveRequest // nil when it is answered
	news     news          // for Status
	caches   cacheNames
	layouts  cacheNames        // of directories that the image itself is written to
	exported map[string]string // what was made, as the client is told
	returned bool              // the client has accepted the result, or said why not
	refused  error             // why not
	over     bool              // the request is answered
}

// Times that a build waits, and is remembered.
const (
	buildWait = 15 * time.Second // for calls that belong to a build, until the client has asked for it
	buildKept = time.Minute      // after its end, for those who ask late how it went
)

// solve answers a request for a build: itself where it names a frontend, else when the client has said over LLBBridge what to build, and accepted what came
// of it.
func (s *Service) solve(st *grpc.Stream, in *solveRequest) (*solveResponse, error) {
	if in.Ref == "" {
		return nil, grpc.Errorf(grpc.InvalidArgument, "the build has no ref")
	}
	if in.Definition != nil && len(in.Definition.Def) > 0 {
		return nil, errGraph()
	}
	b := &build{request: in}
	taken := false
	s.change(func() {
		if taken = s.builds[in.Ref] != nil; !taken {
			s.builds[in.Ref] = b
		}
	})
	if taken {
		return nil, grpc.Errorf(grpc.AlreadyExists, "job ID %s exists", in.Ref)
	}
	ref := in.Ref // not the whole request, which may be large
	defer func() {
		s.change(func() { b.over, b.request = true, nil })
		time.AfterFunc(buildKept, func() { s.change(func() { delete(s.builds, ref) }) })
	}()
	if in.Frontend != "" {
		if _, err := s.run(st.Context(), b, question{frontend: in.Frontend, attrs: in.FrontendAttrs, inputs: in.FrontendInputs}); err != nil {
			return nil, err
		}
		return &solveResponse{ExporterResponse: b.exported}, nil
	}
	if err := s.wait(st.Context(), func() bool { return b.returned }); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.refused != nil {
		return nil, b.refused
	}
	return &solveResponse{ExporterResponse: b.exported}, nil
}

// errGraph refuses a graph that another program than a frontend here has made.
func errGraph() error {
	return grpc.Errorf(grpc.Unimplemented, "forge builds Dockerfiles: a graph of BuildKit's (LLB) cannot be built here; use BuildKit for it: docker buildx create --use")
}

// build waits for the build that a call over LLBBridge belongs to.
func (s *Service) build(st *grpc.Stream) (*build, error) {
	return s.buildOf(st.Context(), st.Metadata().Get("buildkit-controlapi-buildid"))
}

func (s *Service) buildOf(ctx context.Context, ref string) (b *build, err error) {
	ctx, cancel := context.WithTimeout(ctx, buildWait)
	defer cancel()
	err = s.wait(ctx, func() bool {
		b = s.builds[ref]
		return b != nil
	})
	if err != nil {
		return nil, grpc.Errorf(grpc.NotFound, "no such job %s: %v", ref, err)
	}
	return b, nil
}

// here reports whether a build is one of this process.
func (s *Service) here(ref string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.builds[ref] != nil
}

// status sends what happens in a build until it is answered.
func (s *Service) status(st *grpc.Stream) error {
	var in refMessage
	if err := st.Recv(&in); err != nil {
		return err
	}
	if !s.here(in.Ref) && in.Ref != "" { // it may be over
		list, err := s.kept(st.Context(), in.Ref)
		if err != nil {
			return err
		}
		if len(list) > 0 && !s.here(in.Ref) { // else it has begun meanwhile, and its record with it
			return s.past(st, list[0])
		}
	}
	b, err := s.buildOf(st.Context(), in.Ref)
	if err != nil {
		return err
	}
	for sent := 0; ; {
		var fresh []numbered
		over := false
		err := s.wait(st.Context(), func() bool {
			fresh, sent = b.news.since(sent)
			over = b.over
			return over || len(fresh) > 0
		})
		if err != nil {
			return err
		}
		for _, n := range fresh {
			if err := st.Send(n.Status); err != nil {
				return err
			}
		}
		if over && len(fresh) == 0 {
			return nil
		}
	}
}

// ping says what can be done for a build.
func (s *Service) ping(st *grpc.Stream, _ *empty) (*pongResponse, error) {
	if _, err := s.build(st); err != nil {
		return nil, err
	}
	return &pongResponse{Frontend: capabilities(frontendCaps()), LLB: capabilities(llbCaps()), Workers: []workerRecord{s.worker()}}, nil
}

// bridgeSolve builds, or answers a question about a build.
func (s *Service) bridgeSolve(st *grpc.Stream, in *bridgeSolveRequest) (*bridgeSolveResponse, error) {
	b, err := s.build(st)
	if err != nil {
		return nil, err
	}
	if in.Definition != nil && len(in.Definition.Def) > 0 {
		return nil, errGraph()
	}
	r, err := s.run(st.Context(), b, question{frontend: in.Frontend, attrs: in.FrontendOpt, inputs: in.FrontendInputs, imports: in.CacheImports})
	if err != nil {
		return nil, err
	}
	return &bridgeSolveResponse{Result: r}, nil
}

// bridgeReturn takes what the client says of a result.
func (s *Service) bridgeReturn(st *grpc.Stream, in *returnRequest) (*empty, error) {
	b, err := s.build(st)
	if err != nil {
		return nil, err
	}
	s.change(func() {
		b.returned = true
		if in.Error != nil && in.Error.Code != grpc.OK {
			b.refused = in.Error
		}
	})
	return &empty{}, nil
}

// warn takes a warning of the client about its build.
func (s *Service) warn(st *grpc.Stream, in *warnRequest) (*empty, error) {
	b, err := s.build(st)
	if err != nil {
		return nil, err
	}
	s.change(func() {
		b.news.add(&solve.Status{Warnings: []solve.VertexWarning{{Level: in.Level, Short: in.Short}}})
	})
	return &empty{}, nil
}

// A question is what a client wants to have built, or to know of a build.
type question struct {
	request  *solveRequest // of the build
	frontend string
	attrs    map[string]string
	inputs   map[string]*definition
	imports  []exporter // of caches
}

// requestOf is what a build is asked for, as long as it goes on.
func (s *Service) requestOf(b *build) (*solveRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.request == nil {
		return nil, grpc.Errorf(grpc.NotFound, "the build is over")
	}
	return b.request, nil
}

// run does what a question asks for.
func (s *Service) run(ctx context.Context, b *build, q question) (_ *result, err error) {
	if q.request, err = s.requestOf(b); err != nil {
		return nil, err
	}
	sess, err := s.session(ctx, q.request.Session)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(sess.ctx, cancel)()
	o, err := s.buildOptions(ctx, b, q, sess)
	if err != nil {
		return nil, grpc.Errorf(grpc.InvalidArgument, "%v", err)
	}
	home, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, home.Close()) }()
	if id := q.attrs["requestid"]; id != "" {
		return answer(ctx, home, o, id)
	}
	outs, files, err := sess.outputs(ctx, q.request.Exporters, &b.layouts)
	if err != nil {
		return nil, err
	}
	if o.Outputs = outs; len(outs) == 0 { // the client may hand the result to another build
		o.Outputs = []forge.Output{{Type: "image"}}
	}
	for _, e := range q.request.Exporters {
		if names := e.Attrs["name"]; names != "" && len(o.Tags) == 0 {
			o.Tags = strings.Split(names, ",")
		}
	}
	r, err := home.Build(ctx, o)
	for _, f := range files {
		if err != nil {
			f.abort()
			continue
		}
		err = f.close()
	}
	if err != nil {
		return nil, buildError(err)
	}
	exported, err := exportedOf(r)
	if err != nil {
		return nil, err
	}
	if written := b.caches.take(); written != "" {
		exported["cache.manifest"] = written
	}
	if written := b.layouts.take(); written != "" {
		exported["containerimage.descriptor"] = base64.StdEncoding.EncodeToString([]byte(written))
	}
	s.change(func() { b.exported = exported })
	return resultOf(r)
}

// watch puts what happens in a build where Status sends it from.
func (s *Service) watch(b *build) event.Sink {
	to := solve.Translator{Line: clean, Lines: clean}
	return func(e event.Event) {
		if news := to.Translate(e); !news.Empty() {
			s.change(func() { b.news.add(&news) })
		}
	}
}

// clean takes from text what could steer a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, s)
}

// buildError is the error of a build, with the lines of the build file that it is about.
func buildError(err error) error {
	text := err.Error()
	if failed, ok := errors.AsType[*forge.FailedStep](err); ok && failed.Excerpt != "" {
		text += "\n" + failed.Excerpt
	}
	code := grpc.CodeOf(err)
	if _, ok := errors.AsType[*forge.BuildFileError](err); ok {
		code = grpc.InvalidArgument
	}
	return grpc.Errorf(code, "%s", clean(text))
}
