// SPDX-FileCopyrightText: stockyard contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package common

import (
	"context"
	"errors"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/parts/schema"
)

const stepRunBuildStage = BuildStage("step_" + spec.StepNameRun)

func stepDispatch(build *Build, _ Executor, stage BuildStage) (bool, []schema.Step) {
	return stage == stepRunBuildStage, build.Job.Run
}

func stagesToConcreteStep(context.Context, Executor) ([]schema.Step, error) {
	return nil, errors.New("the step runner is not built in")
}
