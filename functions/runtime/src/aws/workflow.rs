//! Starts executions of a Step Functions state machine and reads their status.

use std::error;

use aws_sdk_sfn::{
    Client,
    operation::{describe_execution::DescribeExecutionError, start_execution::StartExecutionError},
    types::ExecutionStatus as Status,
};
use kernel::saga::ExecutionStatus;
use serde::Serialize;
use thiserror::Error;

use crate::{aws, environment, telemetry::xray_header};

/// Step Functions did not answer, or refused.
#[derive(Debug, Error)]
#[error("the state machine is not available")]
pub struct Unavailable(#[source] Box<dyn error::Error + Send + Sync>);

/// A state machine.
#[derive(Clone, Debug)]
pub struct Workflow {
    client: Client,
    arn: String,
}

impl Workflow {
    /// Connects to the state machine that the environment variable `STATE_MACHINE` names by its ARN.
    pub async fn connect() -> Result<Self, environment::Missing> {
        Ok(Self { client: aws::client!(aws_sdk_sfn), arn: environment::required("STATE_MACHINE")? })
    }

    /// Starts the execution with this name. If it was started before, nothing happens: one name is one piece of work.
    pub async fn start(&self, name: &str, input: &impl Serialize) -> Result<(), Unavailable> {
        let input = serde_json::to_string(input).map_err(|error| Unavailable(error.into()))?;
        let request = self
            .client
            .start_execution()
            .state_machine_arn(&self.arn)
            .name(name)
            .input(input)
            .set_trace_header(xray_header());
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(StartExecutionError::ExecutionAlreadyExists(_)) => Ok(()),
                _ => Err(Unavailable(error.into())),
            },
        }
    }

    /// The status of the execution with this name.
    pub async fn status(&self, name: &str) -> Result<ExecutionStatus, Unavailable> {
        // arn:…:stateMachine:<machine> → arn:…:execution:<machine>:<name>
        let execution = format!("{}:{name}", self.arn.replacen(":stateMachine:", ":execution:", 1));
        match self.client.describe_execution().execution_arn(execution).send().await {
            Ok(answer) => Ok(match answer.status {
                Status::Succeeded => ExecutionStatus::Succeeded,
                Status::Failed | Status::TimedOut | Status::Aborted => ExecutionStatus::Failed,
                // An unknown status counts as running.
                _ => ExecutionStatus::Running,
            }),
            Err(error) => match error.as_service_error() {
                Some(DescribeExecutionError::ExecutionDoesNotExist(_)) => Ok(ExecutionStatus::NotFound),
                _ => Err(Unavailable(error.into())),
            },
        }
    }
}
