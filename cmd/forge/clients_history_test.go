package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
)

// buildxHistory lists builds, those of the command line with them, and looks into them.
func (k *kit) buildxHistory() {
	k.mustDocker("buildx", "history", "rm", "--all")
	dir := k.context("history", "FROM base\nRUN echo of the build\n")
	meta := filepath.Join(k.dir, "history.json")
	k.plain("-t", "history:1", "--no-cache", "--metadata-file", meta, dir)
	k.failsDocker("build", k.context("bad-history", "FROM base\nRUN echo last words; exit 7"))
	k.must("build", "-t", "own", dir)
	list := k.mustDocker("buildx", "history", "ls", "--no-trunc", "--format", "{{.Name}} {{.Status}}")
	k.says(list, "history Completed\n")
	k.says(list, "bad-history Error\n")
	k.says(list, dir+" Completed\n") // of the command line
	text, err := os.ReadFile(meta)
	if err != nil {
		k.t.Fatal(err)
	}
	var said map[string]any
	if err := json.Unmarshal(text, &said); err != nil {
		k.t.Fatal(err)
	}
	full, _ := said["buildx.build.ref"].(string)
	ref := full[strings.LastIndexByte(full, '/')+1:]
	k.says(k.mustDocker("buildx", "history", "ls", "--format", "{{.Ref}}"), ref)
	k.says(k.must("builds", "-q"), ref)
	logs := k.docker("", "buildx", "history", "logs", ref)
	k.mustClient(0, logs)
	k.says(logs.err.String(), "of the build\n")
	k.says(logs.err.String(), "[stage-0 2/2] RUN echo of the build")
	k.says(k.mustDocker("buildx", "history", "inspect", ref), "Build Steps:\t3/3 (0% cached)")
	k.says(k.mustDocker("buildx", "history", "inspect", ref), "pkg:docker/base")
	origin := k.mustDocker("buildx", "history", "inspect", "attachment", ref, "--type", "provenance")
	k.says(origin, "\"buildDefinition\": {")
	bad := k.mustDocker("buildx", "history", "inspect", "^1")
	k.says(bad, "Error:")
	k.says(bad, "exit code 7")
	if strings.Contains(k.mustDocker("buildx", "history", "--help"), "trace ") { // 0.29 has none
		k.says(k.mustDocker("buildx", "history", "trace", ref), "RUN echo of the build")
	}
	archive := filepath.Join(k.dir, "record.dockerbuild")
	k.mustDocker("buildx", "history", "export", "-o", archive, ref)
	if info, err := os.Stat(archive); err != nil || info.Size() < 1200 {
		k.t.Errorf("the record is %v, %v", info, err)
	}
	k.mustDocker("buildx", "history", "rm", ref)
	if left := k.mustDocker("buildx", "history", "ls", "--format", "{{.Ref}}"); strings.Contains(left, ref) {
		k.t.Errorf("after its removal the build is among %q", left)
	}
	k.failsDocker("buildx", "history", "logs", ref)
}
