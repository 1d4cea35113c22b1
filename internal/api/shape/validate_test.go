package shape_test

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	"carrel/internal/api/cloudtrail"
	"carrel/internal/api/ds"
	"carrel/internal/api/dsdata"
	"carrel/internal/api/ec2"
	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/api/workspaces"
	"carrel/internal/awserr"
)

func request(directory, user, bundle string) workspaces.WorkspaceRequest {
	return workspaces.WorkspaceRequest{DirectoryId: &directory, UserName: &user, BundleId: &bundle}
}

const directoryPattern = `^(d-[0-9a-f]{8,63}$)|(wsd-[0-9a-z]{8,63}$)`

func TestMessagesAreWordedAsAWSWordsThem(t *testing.T) {
	good := request("d-0123456789", "ada", "wsb-012345678")
	for _, c := range []struct {
		name  string
		op    *shape.Operation
		input any
		want  string
	}{
		{"a good request has no message", workspaces.CreateWorkspaces.Operation,
			&workspaces.CreateWorkspacesInput{Workspaces: []workspaces.WorkspaceRequest{good}}, ""},
		{"an operation without input has nothing to violate", sts.GetCallerIdentity.Operation, &sts.GetCallerIdentityInput{}, ""},
		{"a missing member", workspaces.CreateWorkspaces.Operation, &workspaces.CreateWorkspacesInput{},
			"1 validation error detected: Value null at 'workspaces' failed to satisfy constraint: Member must not be null"},
		{"an empty list", workspaces.CreateWorkspaces.Operation, &workspaces.CreateWorkspacesInput{Workspaces: []workspaces.WorkspaceRequest{}},
			"1 validation error detected: Value '[]' at 'workspaces' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"an empty key in a list", workspaces.CreateTags.Operation,
			&workspaces.CreateTagsInput{ResourceId: shape.Ptr("ws-012345678"), Tags: []workspaces.Tag{{Key: shape.Ptr("")}}},
			"1 validation error detected: Value '' at 'tags.1.member.key' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"a list too long", workspaces.RebootWorkspaces.Operation,
			&workspaces.RebootWorkspacesInput{RebootWorkspaceRequests: slices.Repeat([]workspaces.RebootRequest{{WorkspaceId: shape.Ptr("ws-012345678")}}, 26)},
			"1 validation error detected: Value '[RebootRequest" + strings.Repeat(", RebootRequest", 25)[:242] + "...' at 'rebootWorkspaceRequests' failed to satisfy constraint: Member must have length less than or equal to 25"},
		{"a member of a list's structure", workspaces.CreateWorkspaces.Operation,
			&workspaces.CreateWorkspacesInput{Workspaces: []workspaces.WorkspaceRequest{good, request("d-XXXXXXXX", "ada", "wsb-012345678")}},
			"1 validation error detected: Value 'd-XXXXXXXX' at 'workspaces.2.member.directoryId' failed to satisfy constraint: Member must satisfy regular expression pattern: " + directoryPattern},
		{"two at once", workspaces.CreateWorkspaces.Operation,
			&workspaces.CreateWorkspacesInput{Workspaces: []workspaces.WorkspaceRequest{{DirectoryId: shape.Ptr("d-XXXXXXXX"), BundleId: good.BundleId}}},
			"2 validation errors detected: Value 'd-XXXXXXXX' at 'workspaces.1.member.directoryId' failed to satisfy constraint: Member must satisfy regular expression pattern: " + directoryPattern +
				"; Value null at 'workspaces.1.member.userName' failed to satisfy constraint: Member must not be null"},
		{"an enum in a nested structure", workspaces.ModifyWorkspaceProperties.Operation,
			&workspaces.ModifyWorkspacePropertiesInput{WorkspaceId: shape.Ptr("ws-012345678"),
				WorkspaceProperties: &workspaces.WorkspaceProperties{RunningMode: shape.Ptr(workspaces.RunningMode("SOMETIMES"))}},
			"1 validation error detected: Value 'SOMETIMES' at 'workspaceProperties.runningMode' failed to satisfy constraint: Member must satisfy enum value set: [AUTO_STOP, ALWAYS_ON, MANUAL]"},
		{"a list of scalars is reported once with all constraints of its elements", ds.DescribeDirectories.Operation,
			&ds.DescribeDirectoriesInput{DirectoryIds: []string{"d-0123456789", "x", "y"}},
			"1 validation error detected: Value '[d-0123456789, x, y]' at 'directoryIds' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy regular expression pattern: ^d-[0-9a-f]{10}$]"},
		{"a number too large", workspaces.DescribeWorkspaces.Operation, &workspaces.DescribeWorkspacesInput{Limit: shape.Ptr(int32(26))},
			"1 validation error detected: Value '26' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 25"},
		{"a number too small", workspaces.DescribeWorkspaces.Operation, &workspaces.DescribeWorkspacesInput{Limit: shape.Ptr(int32(0))},
			"1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{"a text too long by characters", sts.AssumeRole.Operation,
			&sts.AssumeRoleInput{RoleArn: shape.Ptr(strings.Repeat("ä", 20)), RoleSessionName: shape.Ptr(strings.Repeat("a", 65))},
			"1 validation error detected: Value '" + strings.Repeat("a", 65) + "' at 'roleSessionName' failed to satisfy constraint: Member must have length less than or equal to 64"},
		{"a sensitive value is not echoed", iam.CreateLoginProfile.Operation,
			&iam.CreateLoginProfileInput{UserName: shape.Ptr("ada"), Password: shape.Ptr("")},
			"2 validation errors detected: Value at 'password' failed to satisfy constraint: Member must have length greater than or equal to 1" +
				`; Value at 'password' failed to satisfy constraint: Member must satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u00FF]+`},
		{"a missing ec2 member", ec2.DeleteVpc.Operation, &ec2.DeleteVpcInput{},
			"1 validation error detected: Value null at 'vpcId' failed to satisfy constraint: Member must not be null"},
		{"the keys and values of a map", dsdata.CreateUser.Operation,
			&dsdata.CreateUserInput{DirectoryId: shape.Ptr("d-0123456789"), SAMAccountName: shape.Ptr("ada"),
				OtherAttributes: map[string]dsdata.AttributeValue{"a b": {BOOL: shape.Ptr(true)}}},
			"1 validation error detected: Value '{a b=AttributeValue}' at 'otherAttributes' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 63, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: ^[A-Za-z*][A-Za-z-*]*$]"},
		{"a union without a member", dsdata.CreateUser.Operation,
			&dsdata.CreateUserInput{DirectoryId: shape.Ptr("d-0123456789"), SAMAccountName: shape.Ptr("ada"),
				OtherAttributes: map[string]dsdata.AttributeValue{"title": {}}},
			"1 validation error detected: Value 'AttributeValue' at 'otherAttributes.title.member' failed to satisfy constraint: Member must have exactly one of the members set: [BOOL, N, S, SS]"},
		{"a union with two members", dsdata.CreateUser.Operation,
			&dsdata.CreateUserInput{DirectoryId: shape.Ptr("d-0123456789"), SAMAccountName: shape.Ptr("ada"),
				OtherAttributes: map[string]dsdata.AttributeValue{"title": {S: shape.Ptr("x"), BOOL: shape.Ptr(true)}}},
			"1 validation error detected: Value 'AttributeValue' at 'otherAttributes.title.member' failed to satisfy constraint: Member must have exactly one of the members set: [BOOL, N, S, SS]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := shape.Validate(c.op, c.input).Message(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestTheErrorIsAValidationErrorOrNil(t *testing.T) {
	err := shape.CheckInput(workspaces.CreateWorkspaces.Operation, &workspaces.CreateWorkspacesInput{})
	if err == nil || err.Kind != awserr.Validation || !strings.HasPrefix(err.Message, "1 validation error detected") {
		t.Errorf("got %v", err)
	}
	if err := shape.CheckInput(workspaces.DescribeWorkspaces.Operation, &workspaces.DescribeWorkspacesInput{}); err != nil {
		t.Errorf("got %v for a good input", err)
	}
}

func TestAServicesOwnExceptionAnswersWhereItHasOne(t *testing.T) {
	for _, c := range []struct {
		name, code, text string
		in               *cloudtrail.LookupEventsInput
	}{
		{"a number out of its range", "InvalidMaxResultsException", "1 validation error detected: Value '51' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 50",
			&cloudtrail.LookupEventsInput{MaxResults: shape.Ptr(int32(51))}},
		{"the first of several decides", "InvalidEventCategoryException", "2 validation errors detected: ",
			&cloudtrail.LookupEventsInput{EventCategory: shape.Ptr(cloudtrail.EventCategory("x")), MaxResults: shape.Ptr(int32(0))}},
		{"an absent member is a common validation error", "", "1 validation error detected: Value null at 'lookupAttributes.1.member.attributeValue'",
			&cloudtrail.LookupEventsInput{LookupAttributes: []cloudtrail.LookupAttribute{{AttributeKey: shape.Ptr(cloudtrail.LookupAttributeKeyEventId)}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := shape.CheckInput(cloudtrail.LookupEvents.Operation, c.in)
			if err == nil || err.Code != c.code || (err.Kind == awserr.Modelled) != (c.code != "") || !strings.HasPrefix(err.Message, c.text) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTheAnswerDoesNotGrowWithTheRequest(t *testing.T) {
	t.Run("a value of a megabyte is cut and stays valid UTF-8", func(t *testing.T) {
		in := &workspaces.DescribeTagsInput{ResourceId: shape.Ptr(strings.Repeat("ü", 1<<20))}
		in2 := &sts.AssumeRoleInput{RoleArn: in.ResourceId, RoleSessionName: shape.Ptr("s\xff")}
		msg := shape.Validate(sts.AssumeRole.Operation, in2).Message()
		if len(msg) > 4096 || !strings.Contains(msg, "...'") || strings.Contains(msg, "\xff") {
			t.Errorf("message of %d bytes: %.300q", len(msg), msg)
		}
	})
	t.Run("a thousand wrong elements are counted and ten listed", func(t *testing.T) {
		in := &workspaces.CreateWorkspacesInput{}
		for range 1000 {
			in.Workspaces = append(in.Workspaces, request("d-XXXXXXXX", "ada", "wsb-012345678"))
		}
		v := shape.Validate(workspaces.CreateWorkspaces.Operation, in)
		if v.Total != 1001 || len(v.List) != 10 || len(v.Message()) > 8192 {
			t.Errorf("total %d, listed %d, message of %d bytes", v.Total, len(v.List), len(v.Message()))
		}
	})
}

var services = []*shape.Service{cloudtrail.Service, ds.Service, dsdata.Service, ec2.Service, iam.Service, sts.Service, workspaces.Service}

func TestEveryOperationIsReadyToRun(t *testing.T) {
	for _, s := range services {
		t.Run(s.Name, func(t *testing.T) {
			for i, op := range s.Operations {
				if op.Service != s || s.Operation(op.Name) != op {
					t.Errorf("%s is not found in its service", op.Name)
				}
				if i > 0 && s.Operations[i-1].Name >= op.Name {
					t.Errorf("%s is out of order", op.Name)
				}
				for _, code := range op.Errors {
					if _, ok := s.Exceptions[code]; !ok {
						t.Errorf("%s: no exception %s", op.Name, code)
					}
				}
				v := shape.Validate(op, op.NewInput())
				want := 0
				if op.Input != nil {
					for _, f := range op.Input.Fields {
						if f.Required {
							want++
						}
					}
				}
				if v.Total != want {
					t.Errorf("%s: an empty input gives %d violations, the model has %d required members", op.Name, v.Total, want)
				}
			}
		})
	}
}

func TestPlansAreSharedByConcurrentCallers(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, op := range iam.Service.Operations {
				shape.Validate(op, op.NewInput())
			}
		})
	}
	wg.Wait()
}

func FuzzValidate(f *testing.F) {
	ops := []*shape.Operation{workspaces.CreateWorkspaces.Operation, workspaces.DescribeWorkspaces.Operation,
		dsdata.CreateUser.Operation, ec2.CreateVpcEndpoint.Operation, iam.CreateUser.Operation}
	f.Add(0, []byte(`{"Workspaces":[{"DirectoryId":"d-1","UserName":"ada","Tags":[{"Key":""}]}]}`))
	f.Add(2, []byte(`{"OtherAttributes":{"":{"SS":["","\ud800"]}},"SAMAccountName":null}`))
	f.Add(3, []byte(`{"TagSpecifications":[{"ResourceType":"x","Tags":[{}]}],"VpcId":""}`))
	f.Fuzz(func(t *testing.T, which int, body []byte) {
		op := ops[uint(which)%uint(len(ops))]
		in := op.NewInput()
		if json.Unmarshal(body, in) != nil {
			return
		}
		v := shape.Validate(op, in)
		if v.Total < len(v.List) || (v.Total == 0) != (v.Message() == "") || len(v.List) > 10 {
			t.Errorf("inconsistent: %d found, %d listed", v.Total, len(v.List))
		}
		if again := shape.Validate(op, in); again.Message() != v.Message() {
			t.Errorf("two answers for one input: %q and %q", v.Message(), again.Message())
		}
	})
}

func BenchmarkValidateCreateWorkspaces(b *testing.B) {
	in := &workspaces.CreateWorkspacesInput{}
	for range 25 {
		in.Workspaces = append(in.Workspaces, request("d-0123456789", "ada", "wsb-012345678"))
	}
	b.ReportAllocs()
	for b.Loop() {
		if shape.Validate(workspaces.CreateWorkspaces.Operation, in).Total != 0 {
			b.Fatal("not valid")
		}
	}
}
