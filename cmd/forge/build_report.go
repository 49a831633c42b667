package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/forge-build/forge/cmd/forge/ui"
)

// reportFlags say what a CI system is told.
type reportFlags struct {
	Annotations string `help:"Tell lint and failures at their lines: github, gitlab=FILE (code quality) or none; auto is github in its workflows." default:"auto" env:"FORGE_ANNOTATIONS" placeholder:"HOW"`
	Summary     string `help:"Append a summary in Markdown to a file; in workflows of GitHub it is that of the step." env:"FORGE_SUMMARY" placeholder:"FILE"`
}

// fill finds out what auto is.
func (f *reportFlags) fill() error {
	inWorkflow := os.Getenv("GITHUB_ACTIONS") == "true"
	if f.Summary == "" && inWorkflow {
		f.Summary = os.Getenv("GITHUB_STEP_SUMMARY")
	}
	file, toFile := strings.CutPrefix(f.Annotations, "gitlab=")
	switch {
	case f.Annotations == "auto" && inWorkflow:
		f.Annotations = "github"
	case f.Annotations == "auto":
		f.Annotations = "none"
	case f.Annotations != "none" && f.Annotations != "github" && !(toFile && file != ""):
		return badUsage(fmt.Errorf("--annotations %s: must be auto, none, github or gitlab=FILE", f.Annotations))
	}
	return nil
}

// root is the directory of the repository that a job is about.
func root() string {
	for _, name := range []string{"GITHUB_WORKSPACE", "CI_PROJECT_DIR"} {
		if dir := os.Getenv(name); dir != "" {
			return dir
		}
	}
	dir, _ := os.Getwd() // without one paths stay as they are
	return dir
}

// tell tells what there is to tell when a build has ended.
func (f *reportFlags) tell(s *session, r *ui.Report) error {
	var errs []error
	if f.Annotations == "github" {
		errs = append(errs, r.GitHub(s.err))
	}
	if name, ok := strings.CutPrefix(f.Annotations, "gitlab="); ok {
		file, err := os.Create(name)
		if err == nil {
			err = errors.Join(r.GitLab(file), file.Close())
		}
		errs = append(errs, err)
	}
	if f.Summary != "" {
		file, err := os.OpenFile(f.Summary, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err == nil {
			err = errors.Join(r.Summary(file), file.Close())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
