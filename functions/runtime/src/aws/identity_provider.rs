//! Reads and removes logins in the Cognito user pool.

use aws_sdk_cognitoidentityprovider::{
    Client, operation::admin_delete_user::AdminDeleteUserError, operation::admin_get_user::AdminGetUserError,
};
use kernel::problem::Problem;

use crate::{Error, aws, environment};

/// The user pool.
#[derive(Clone, Debug)]
pub struct UserPool {
    client: Client,
    id: String,
}

/// The e-mail address of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Email {
    /// It is verified: its owner receives mail there.
    Verified(String),
    /// There is none, or it is not verified.
    Unverified,
    /// The login was removed, although its token is still valid.
    NoLogin,
}

impl UserPool {
    /// Connects to the pool that the environment variable `USER_POOL_ID` names.
    pub async fn connect() -> Result<Self, environment::Missing> {
        Ok(Self {
            client: aws::client!(aws_sdk_cognitoidentityprovider),
            id: environment::required("USER_POOL_ID")?,
        })
    }

    /// The e-mail address of a login.
    pub async fn email(&self, username: &str) -> Result<Email, Problem> {
        let answer = self.client.admin_get_user().user_pool_id(&self.id).username(username).send().await;
        let attributes = match answer {
            Ok(login) => login.user_attributes.unwrap_or_default(),
            Err(error)
                if matches!(error.as_service_error(), Some(AdminGetUserError::UserNotFoundException(_))) =>
            {
                return Ok(Email::NoLogin);
            }
            Err(error) => return Err(Problem::unavailable(error)),
        };
        let attribute = |name| attributes.iter().find(|attribute| attribute.name == name)?.value.clone();
        let verified = attribute("email_verified").as_deref() == Some("true");
        Ok(attribute("email").filter(|_| verified).map_or(Email::Unverified, Email::Verified))
    }

    /// Removes a login. One that is gone already counts as removed.
    pub async fn delete(&self, username: &str) -> Result<(), Error> {
        match self.client.admin_delete_user().user_pool_id(&self.id).username(username).send().await {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(
                    error.as_service_error(),
                    Some(AdminDeleteUserError::UserNotFoundException(_))
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}
