package workspaces

import (
	"fmt"

	api "carrel/internal/api/workspaces"
	"carrel/internal/awserr"
	"carrel/internal/state"
)

// All texts of the package stand in this file. AWS publishes few of its own; clients match codes, not texts.

// failure is why one item of a batch was not carried out: FailedRequests' ErrorCode and ErrorMessage.
type failure struct{ code, message string }

// The failures of CreateWorkspaces' items. The codes ResourceNotFound.Directory, ResourceNotFound.User, ResourceExists.WorkSpace,
// InvalidUserConfiguration.Workspace and the two AutoStopTimeout ones are AWS's; the others are made in their manner.
var (
	failNoDirectory = failure{"ResourceNotFound.Directory", "The specified directory could not be found in the specified region."}
	failNoUser      = failure{"ResourceNotFound.User", "The specified user could not be found in the directory."}
	failNoBundle    = failure{"ResourceNotFound.Bundle", "The specified bundle could not be found in the specified region."}
	failUserHasOne  = failure{"ResourceExists.WorkSpace", "The specified user already has a WorkSpace in the directory."}

	failNoAnswer       = failure{"ResourceUnavailable.Directory", "The directory does not answer. Try again later."}
	failBundleNotReady = failure{"ResourceUnavailable.Bundle", "The specified bundle is not available."}

	failNameMissing = failure{"InvalidUserConfiguration.Workspace", "WorkspaceName is required when UserName is [UNDEFINED]."}
	failNameGiven   = failure{"InvalidUserConfiguration.Workspace", "WorkspaceName is not applicable when UserName names a user."}

	failTimeoutAlwaysOn = failure{"AutoStopTimeoutIsNotApplicableForAnAlwaysOnWorkspace",
		"RunningModeAutoStopTimeoutInMinutes is not applicable for WorkSpace with running mode set to ALWAYS_ON."}
	failTimeoutManual = failure{"AutoStopTimeoutIsNotDefaultForManualWorkspace",
		"RunningModeAutoStopTimeoutInMinutes is not applicable for WorkSpace with running mode set to MANUAL."}
	failTimeout = invalid("RunningModeAutoStopTimeoutInMinutes must be a multiple of 60 minutes, from 60 on.")

	failVolumes         = invalid("The volume sizes must be 80 GiB root with 10, 50 or 100 GiB user, or 175 to 2000 GiB root with 100 to 2000 GiB user.")
	failGraphicsVolumes = invalid("The volume sizes of a graphics bundle must be 100 GiB root with 100 GiB user, or 175 to 2000 GiB root with 100 to 2000 GiB user.")
	failRootTooSmall    = invalid("The root volume cannot be smaller than that of the bundle.")
	failCompute         = invalid("The compute type does not go with the bundle.")
	failProtocol        = invalid("The bundle does not have the protocol. Name exactly one that it has.")
	failSystem          = invalid("The operating system is not that of the bundle.")
	failKeyUnused       = invalid("VolumeEncryptionKey is given, but neither volume is to be encrypted.")
	failKeyTooLong      = invalid("VolumeEncryptionKey is not the ARN of a key.")
	failAccelerator     = failure{"OperationNotSupported.GlobalAccelerator", "Global Accelerator is not supported."}
	failIPv6            = failure{"OperationNotSupported.Ipv6Address", "IPv6 addresses are not supported."}
)

func invalid(text string) failure { return failure{"InvalidParameterValues", text} }

func failDirectoryState(state string) failure {
	return failure{"InvalidResourceState.Directory", "The specified directory is " + state + ", not REGISTERED."}
}

// failTags passes a refusal of tags on as an item's failure.
func failTags(err *awserr.Error) failure {
	if err.Code == codeLimit {
		return failure{"ResourceLimitExceeded", err.Message}
	}
	return failure{"InvalidParameterValues", err.Message}
}

// textRegistrationFailed is the ErrorMessage of a directory whose registration is in state ERROR.
const textRegistrationFailed = "The directory could not be registered. Register or deregister it again."

// codeTermination is the ErrorCode of a WorkSpace that stays TERMINATING because a step of it fails, such as the scrub of its memory.
const codeTermination = "TerminationDelayed"

// textTermination names the step and nothing of its error, which stays in the log: it may name hosts and paths.
func textTermination(step string, attempts int) string {
	return fmt.Sprintf("The WorkSpace is not gone yet: %s has failed %d times and is tried again.", step, attempts)
}

const codeLimit = "ResourceLimitExceededException"

// The failures of Start-, Stop-, Reboot- and TerminateWorkspaces' items.
func failNoWorkspace(id string) failure {
	if id == "" { // the model lets Start- and StopWorkspaces leave it out
		return failure{"ResourceNotFound.Workspace", "The WorkspaceId is missing."}
	}
	return failure{"ResourceNotFound.Workspace", "WorkSpace " + id + " could not be found."}
}

func failState(w *state.Workspace, what string) failure {
	return failure{"InvalidResourceState.Workspace", "WorkSpace " + string(w.ID) + " cannot be " + what + " in state " + w.Status.State + "."}
}

func failMode(w *state.Workspace, what string) failure {
	return failure{"OperationNotSupported.Workspace",
		"WorkSpace " + string(w.ID) + " cannot be " + what + ": its running mode is " + w.Spec.RunningMode + "."}
}

func (f failure) change(id *string) api.FailedWorkspaceChangeRequest {
	return api.FailedWorkspaceChangeRequest{WorkspaceId: id, ErrorCode: &f.code, ErrorMessage: &f.message}
}

func (f failure) create(r *api.WorkspaceRequest) api.FailedCreateWorkspaceRequest {
	return api.FailedCreateWorkspaceRequest{WorkspaceRequest: r, ErrorCode: &f.code, ErrorMessage: &f.message}
}

// The errors of whole calls.

func errToken() *awserr.Error {
	return awserr.InvalidParameterValues("The NextToken is not valid for this request, or it has expired.")
}

func errFilters() *awserr.Error {
	return awserr.InvalidParameterValues("An invalid number of parameters provided with DescribeWorkspaces. " +
		"Only one of the following are allowed to be specified: BundleId, DirectoryId, WorkSpaceIds.")
}

func errNeedsDirectory(member string) *awserr.Error {
	return awserr.InvalidParameterValues("The DirectoryId parameter is required when %s is used.", member)
}

func errBundleFilters() *awserr.Error {
	return awserr.InvalidParameterValues("Only one of BundleIds and Owner can be specified.")
}

func errLimit(what string, limit int) *awserr.Error {
	return awserr.ResourceLimitExceeded("Your resource limits have been exceeded: %s, at most %d.", what, limit)
}

func errNoDirectoryID() *awserr.Error {
	return awserr.New(awserr.Validation, "The following arguments are required - DirectoryId.")
}

func errNoDirectory(id string) *awserr.Error {
	return awserr.ResourceNotFound(id, "The specified directory %s could not be found in the specified region.", id)
}

func errNotRegistered(id string) *awserr.Error {
	return awserr.ResourceNotFound(id, "The directory %s is not registered.", id)
}

func errStage(id, stage string) *awserr.Error {
	return awserr.InvalidResourceState("The directory %s is %s; only an Active directory can be registered.", id, stage)
}

func errRegistrationState(id, state string) *awserr.Error {
	return awserr.InvalidResourceState("The registration of directory %s is in state %s.", id, state)
}

func errRegisteredOtherwise(id, member string) *awserr.Error {
	return awserr.ResourceAlreadyExists("The directory %s is already registered with other %s.", id, member)
}

func errVariant(member string) *awserr.Error {
	return awserr.OperationNotSupported("Directories with %s are not supported.", member)
}

func errNotForPersonal(member string) *awserr.Error {
	return awserr.InvalidParameterValues("%s is not applicable to a directory of Directory Service.", member)
}

func errDedicated() *awserr.Error {
	return awserr.InvalidParameterValues("Tenancy DEDICATED needs an account that is enabled for BYOL.")
}

func errSubnetCount() *awserr.Error {
	return awserr.InvalidParameterValues("SubnetIds must name two different subnets.")
}

func errNoSubnet(id string) *awserr.Error {
	return awserr.ResourceNotFound(id, "The subnet %s does not exist.", id)
}

func errSubnetVPC(id, vpc string) *awserr.Error {
	return awserr.UnsupportedNetworkConfiguration("The subnet %s is not in the directory's VPC %s.", id, vpc)
}

func errSubnetZones() *awserr.Error {
	return awserr.OperationNotSupported("The subnets must be in different Availability Zones.")
}

func errZone(zone string) *awserr.Error {
	return awserr.OperationNotSupported("The Availability Zone %s is not supported.", zone)
}

func errManagementRange(cidr string) *awserr.Error {
	return awserr.UnsupportedNetworkConfiguration("The VPC's range %s overlaps every range of the management interfaces.", cidr)
}

func errDirectoryInUse(id string) *awserr.Error {
	return awserr.OperationNotSupported("The directory %s still has WorkSpaces.", id)
}

func errNoIPGroup(id string) *awserr.Error {
	return awserr.ResourceNotFound(id, "The IP access control group %s does not exist.", id)
}

func errIPGroupName() *awserr.Error {
	return awserr.InvalidParameterValues("GroupName must have 1 to %d characters.", maxText)
}

func errIPGroupDescription() *awserr.Error {
	return awserr.InvalidParameterValues("GroupDesc can have at most %d characters.", maxText)
}

func errIPGroupExists(name string) *awserr.Error {
	return awserr.ResourceAlreadyExists("An IP access control group named %q already exists.", name)
}

func errIPGroupInUse(id, directory string) *awserr.Error {
	return awserr.ResourceAssociated("The IP access control group %s is associated with directory %s.", id, directory)
}

func errRule(rule string) *awserr.Error {
	return awserr.InvalidParameterValues("The rule %q is not an IPv4 address or CIDR range.", rule)
}

func errRuleDescription() *awserr.Error {
	return awserr.InvalidParameterValues("ruleDesc can have at most %d characters.", maxText)
}

func errRuleTwice(rule string) *awserr.Error {
	return awserr.InvalidParameterValues("The rule %q is given more than once or exists already.", rule)
}

func errNoRule(rule string) *awserr.Error {
	return awserr.InvalidParameterValues("The group has no rule %q.", rule)
}

func errNoResource(id string) *awserr.Error {
	return awserr.ResourceNotFound(id, "The resource %s does not exist.", id)
}

func errTagKey() *awserr.Error {
	return awserr.InvalidParameterValues("A tag key must have 1 to 127 characters.")
}

func errTagValue() *awserr.Error {
	return awserr.InvalidParameterValues("A tag value can have at most 255 characters.")
}

func errTagReserved() *awserr.Error {
	return awserr.InvalidParameterValues("Tag keys that begin with aws: are reserved.")
}

func errTagTwice(key string) *awserr.Error {
	return awserr.InvalidParameterValues("The tag key %q is given more than once.", key)
}
