package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/internal/reapi/reapitest"
)

// cluster serves the test kit's server of the Remote Execution API until the benchmarks end: its workers are processes of this machine.
func (b *bench) cluster(name string, workers int) (address string, err error) {
	dir := filepath.Join(b.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	s := &reapitest.Server{Execute: reapitest.Process(dir, nil), Workers: workers}
	address, shut, err := s.Serve()
	b.end = append(b.end, func() error { shut(); return nil })
	return address, err
}

const clusterSteps = 20

// clusterStepCase is what a step costs that is done at a cluster, beside what the server itself needs for a command that does nothing.
// FORGE_TEST_REMOTE names another server than the test kit's.
func clusterStepCase(b *bench) ([]contestant, error) {
	address := os.Getenv("FORGE_TEST_REMOTE")
	if address == "" {
		var err error
		if address, err = b.cluster("steps.work", 1); err != nil {
			return nil, err
		}
	}
	var file strings.Builder
	file.WriteString("FROM bench/base\n")
	for i := range clusterSteps {
		fmt.Fprintf(&file, "RUN --network=none [\"true\", \"%d\"]\n", i)
	}
	dir, err := b.context("cluster", file.String(), nil)
	if err != nil {
		return nil, err
	}
	client, err := reapi.Dial(address, reapi.Options{})
	if err != nil {
		return nil, err
	}
	b.end = append(b.end, client.Close)
	build := []string{b.forge, "build", "-q", "--no-cache"}
	return []contestant{
		{name: "forge --remote", args: append(build, "--remote", address, "--remote-policy", "only", dir)},
		{name: "true, by the server", do: func() error { return serverTrue(client) }},
		{name: "forge, here", args: append(build, dir)},
	}, nil
}

// serverTrue has a server execute a command that does nothing, as often as the build has steps.
func serverTrue(c *reapi.Client) (err error) {
	blob := func(m any) reapi.Blob {
		data, _, marshalErr := c.Marshal(m)
		err = errors.Join(err, marshalErr)
		return reapi.BlobOf(data)
	}
	ctx := context.Background()
	for i := range clusterSteps {
		command := blob(reapi.Command{Arguments: []string{"/bin/true"}, Env: []reapi.Property{{Name: "PATH", Value: "/bin"}}})
		root := blob(reapi.Directory{})
		action := blob(reapi.Action{Command: &command.Digest, Input: &root.Digest, Salt: fmt.Append(nil, i, time.Now().UnixNano())})
		if err == nil {
			err = c.Store(ctx, []reapi.Blob{command, root, action}, nil)
		}
		if err == nil {
			_, err = c.Execute(ctx, reapi.Execution{Action: action.Digest})
		}
	}
	return err
}

const clusterStages = 16

// clusterStagesCase is a build of 16 stages that wait for a second each, at four executors that do one at a time, beside the same steps one
// after the other here, as on a machine with one processor. They wait and do not work, so that the processors of this machine count for nothing.
func clusterStagesCase(b *bench) ([]contestant, error) {
	address, err := b.cluster("stages.work", 4)
	if err != nil {
		return nil, err
	}
	var side, chain, copies strings.Builder
	chain.WriteString("FROM bench/base\n")
	for i := range clusterStages {
		run := fmt.Sprintf("RUN --network=none sleep 1; echo %d > /f%d\n", i, i)
		fmt.Fprintf(&side, "FROM bench/base AS s%d\n%s", i, run)
		chain.WriteString(run)
		fmt.Fprintf(&copies, "--mount=type=bind,from=s%d,target=/m%d ", i, i)
	}
	fmt.Fprintf(&side, "FROM bench/base\nRUN --network=none %scat /m*/f* > /all\n", copies.String())
	there, err := b.context("cluster-stages", side.String(), nil)
	if err != nil {
		return nil, err
	}
	here, err := b.context("cluster-chain", chain.String(), nil)
	build := []string{b.forge, "build", "-q", "--no-cache"}
	return []contestant{
		{name: "forge --remote", args: append(build, "--remote", address, "--remote-policy", "only", there)},
		{name: "forge, here, one by one", args: append(build, here)},
		{name: "sleep 4", args: []string{"sleep", "4"}, floor: true},
	}, err
}

const clusterAnswers = 50

// clusterAnswersCase is a build of 50 steps on a machine that has never built anything, all of which a cluster has done: of one stage, and of as
// many stages, which are looked up at once, also where the cluster is far away. Nothing is fetched or sent but what says so.
func clusterAnswersCase(b *bench) ([]contestant, error) {
	registry, err := b.registry()
	if err != nil {
		return nil, err
	}
	address, err := b.cluster("answers.work", 4)
	if err != nil {
		return nil, err
	}
	far, err := (&line{rtt: farRTT}).to(strings.TrimPrefix(address, "grpc://"))
	if err != nil {
		return nil, err
	}
	base := registry + "/base:1"
	if err := errors.Join(b.quietly("tag", "bench/base", base), b.quietly("push", "-q", base)); err != nil {
		return nil, err
	}
	store := filepath.Join(b.dir, "fresh-cluster")
	fresh := func() error { return os.RemoveAll(store) }
	build := func(address, dir string) []string {
		return []string{
			b.forge, "--store", store, "build", "-q", "-o", "type=cacheonly", "--remote", address, "--remote-policy", "only", dir,
		}
	}
	var chain, side, reads strings.Builder
	fmt.Fprintf(&chain, "FROM %s\n", base)
	for i := range clusterAnswers {
		fmt.Fprintf(&chain, "RUN --network=none echo %d > /f%d\n", i, i)
		fmt.Fprintf(&side, "FROM %s AS s%d\nRUN --network=none [\"true\", \"side %d\"]\n", base, i, i)
		fmt.Fprintf(&reads, "--mount=type=bind,from=s%d,target=/m%d ", i, i)
	}
	fmt.Fprintf(&side, "FROM %s\nRUN --network=none %strue\n", base, reads.String())
	one, err := b.context("answers-chain", chain.String(), nil)
	if err != nil {
		return nil, err
	}
	many, err := b.context("answers-side", side.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{one, many} { // which has the cluster do them
		args := build(address, dir)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, out)
		}
	}
	return []contestant{
		{name: "one stage", before: fresh, args: build(address, one)},
		{name: "50 stages", before: fresh, args: build(address, many)},
		{name: "one stage, 30 ms away", before: fresh, args: build("grpc://"+far, one)},
		{name: "50 stages, 30 ms away", before: fresh, args: build("grpc://"+far, many)},
	}, nil
}
